"""Model definitions: the frozen records that a TOML definition is read into.

Each record mirrors a table of the definition, so the conversion loses nothing in either direction. Nothing
here imports TensorFlow or Keras.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from effkeras.definitions.class_names import checked_class_names
from effkeras.definitions.networks import BATCH_NORM, Activation, BatchNormSpec, Network
from effkeras.support.errors import EffkerasError
from effkeras.support.files import safe_name
from effkeras.support.tables import Table, to_record, to_table

SCHEMA = 1
# Limits of an input's height and width, in pixels.
SMALLEST, LARGEST = 32, 16384
# The limit of BiFPN cells and head layers; the largest published detector has 8 and 5.
MOST_LAYERS = 100

Family = Literal[
    "efficientnet",
    "efficientnetv2",
    "efficientdet",
    "nasnet",
    "pnasnet",
    "mnasnet",
    "mixnet",
    "mobilenet",
    "squeezenet",
    "application",
]

Head = Literal["detect", "segment"]
HEADS: tuple[Head, ...] = ("detect", "segment")
BACKGROUND = "background"
MOST_MASK_CLASSES = 255  # label maps hold uint8 values, and 255 means ignore


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How an image becomes the network's input; all code uses this one record.

    `size` is (height, width) in pixels; `mean` and `std` are per RGB channel on the 0..255 scale.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["letterbox", "center-crop"]
    crop: float = 1.0


@dataclass(frozen=True, slots=True)
class FpnSpec:
    """A BiFPN over the levels min..max (level l has stride 2^l)."""

    levels: tuple[int, int] = (3, 7)
    channels: int = 64
    cells: int = 3
    fusion: Literal["fast", "sum"] = "fast"
    activation: Activation = "swish"
    batch_norm: BatchNormSpec = field(default_factory=BatchNormSpec)


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The class and box heads. All levels share their layers, except batch normalisation."""

    repeats: int = 3


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """The segmentation head, which predicts a class for each pixel.

    With `classes` 0 the mask classes follow the detector's: 0 is the background, c the detector's class
    c - 1. Otherwise `classes` counts all mask classes, including class 0, and `labels` may name them.
    """

    classes: int = 0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnchorSpec:
    """Anchors per location: `octaves` scales times the aspect ratios (width / height)."""

    scale: float = 4.0
    octaves: int = 3
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5)

    @property
    def per_location(self) -> int:
        """Anchors at one location of one level."""
        return self.octaves * len(self.aspect_ratios)


@dataclass(frozen=True, slots=True)
class NmsSpec:
    """Non-maximum suppression, and its input.

    With `max_inputs` 0 the input is the best class of each anchor. Otherwise it is that many pairs of anchor
    and class with the highest scores, as the reference evaluates COCO (its `max_nms_inputs`).
    """

    method: Literal["gaussian", "hard"] = "gaussian"
    iou_threshold: float = 0.5
    sigma: float = 0.5
    score_threshold: float = 0.001
    max_detections: int = 100
    max_inputs: int = 0


@dataclass(frozen=True, slots=True)
class WeightsSpec:
    """Named weights: a file beside the definition, or a URL where they are published.

    `sha256` or `md5` is the digest published with the file, `inside` the checkpoint's path in an archive of
    several. `mean` and `std` replace those of the input, because weights need the preprocessing that they
    were trained with. `package` is a package on PyPI that holds the same weights, as "name==version", in the
    file `package_file` with the digest `package_sha256`.
    """

    file: str = ""
    url: str = ""
    licence: str = ""
    source: str = ""
    sha256: str = ""
    md5: str = ""
    inside: str = ""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    package: str = ""
    package_file: str = ""
    package_sha256: str = ""


@dataclass(frozen=True, slots=True)
class PublishedSpec:
    """Figures that the authors published; `source` names the publication."""

    source: str
    parameters: int = 0
    macs: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A resolved definition: everything needed to build the model.

    `heads` lists a detector's outputs: "detect" boxes, "segment" a class per pixel; empty means boxes.
    """

    name: str
    family: Family
    input: InputSpec
    network: Network
    classes: int
    schema: int = SCHEMA
    summary: str = ""
    backbone: str = ""
    labels: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    fpn: FpnSpec | None = None
    head: HeadSpec | None = None
    anchors: AnchorSpec | None = None
    nms: NmsSpec | None = None
    channels: Mapping[str, int] = field(default_factory=dict)
    published: PublishedSpec | None = None
    weights: Mapping[str, WeightsSpec] = field(default_factory=dict)
    heads: tuple[Head, ...] = ()
    segment: SegmentSpec | None = None

    @property
    def is_detector(self) -> bool:
        """Whether the outputs are boxes (or a mask) rather than one class per image."""
        return self.family == "efficientdet"

    @property
    def detects(self) -> bool:
        """Whether the outputs are boxes."""
        return self.is_detector and "detect" in (self.heads or ("detect",))

    @property
    def segments(self) -> bool:
        """Whether the outputs hold a class for each pixel."""
        return "segment" in self.heads

    @property
    def mask_classes(self) -> int:
        """Classes of a pixel, background included; 0 when there is no mask."""
        if not self.segments:
            return 0
        return (self.segment.classes if self.segment else 0) or self.classes + 1

    @property
    def mask_labels(self) -> tuple[str, ...]:
        """Names of the mask classes; empty when they have none."""
        own = self.segment or SegmentSpec()
        if own.classes or not self.segments:
            return own.labels
        return (BACKGROUND, *self.labels) if self.labels else ()

    @property
    def levels(self) -> range:
        """The pyramid levels of a detector."""
        low, high = detector_parts(self).fpn.levels
        return range(low, high + 1)

    def replace(self, **changes: Any) -> ModelSpec:
        """A copy with other values, checked like a definition read from a file."""
        return checked(dataclasses.replace(self, **changes))

    def to_table(self) -> Table:
        """The definition as a plain table that `spec_from_table` reads."""
        return to_table(self)

    def to_toml(self) -> str:
        """The definition as TOML text that `effkeras.spec` reads."""
        import tomli_w

        return tomli_w.dumps(self.to_table())


@dataclass(frozen=True, slots=True)
class DetectorParts:
    """The tables that only a detector has, all present."""

    fpn: FpnSpec
    head: HeadSpec
    anchors: AnchorSpec
    nms: NmsSpec


def detector_parts(spec: ModelSpec) -> DetectorParts:
    """The detector's tables. Raises EffkerasError when the model is not a detector."""
    if spec.fpn is None or spec.head is None or spec.anchors is None or spec.nms is None:
        raise EffkerasError(f"{spec.name} is not a detector: it has no fpn, head, anchors and nms")
    return DetectorParts(spec.fpn, spec.head, spec.anchors, spec.nms)


def spec_from_table(table: Mapping[str, Any], where: str) -> ModelSpec:
    """Reads a resolved definition; `where` names its file in errors."""
    if table.get("schema", SCHEMA) != SCHEMA:
        raise EffkerasError(
            f"{where}: schema {table['schema']!r} is unknown; this version reads schema {SCHEMA}"
        )
    return checked(to_record(ModelSpec, table, where), where)


def checked(spec: ModelSpec, where: str = "") -> ModelSpec:
    """The spec itself, after checks beyond those of types."""
    safe_name(spec.name, f"{where}: the name" if where else "the model's name")
    where = where or spec.name
    for name in spec.weights:
        safe_name(name, f"{where}: the weights' name")
    problem = _problem(spec)
    if problem:
        raise EffkerasError(f"{where}: {problem}")
    return spec


def _problem(spec: ModelSpec) -> str:
    checks = {
        f"classes must be at least 1, not {spec.classes}": spec.classes >= 1,
        f"{len(spec.labels)} labels for {spec.classes} classes": len(spec.labels) in (0, spec.classes),
        f"{len(spec.category_ids)} category_ids for {spec.classes} classes": (
            len(spec.category_ids) in (0, spec.classes)
        ),
        f"input size {spec.input.size} is below {SMALLEST} pixels, too small for five strides of 2": (
            min(spec.input.size) >= SMALLEST
        ),
        f"input size {spec.input.size} is above {LARGEST} pixels": max(spec.input.size) <= LARGEST,
        "std must be above 0": min(spec.input.std) > 0,
        "crop must be above 0 and at most 1": 0 < spec.input.crop <= 1,
        "all channels must be above 0": min(spec.channels.values(), default=1) > 0,
        **(_detector_checks(detector_parts(spec)) if spec.is_detector else {}),
        "only a detector has a backbone to choose": spec.is_detector or not spec.backbone,
        **_head_checks(spec),
    }
    problem = next((text for text, holds in checks.items() if not holds), "")
    return problem or _names_problem(spec) or spec.network.problem()


def _names_problem(spec: ModelSpec) -> str:
    try:
        checked_class_names(spec.labels)
        checked_class_names(spec.segment.labels if spec.segment else ())
    except EffkerasError as error:
        return str(error)
    return ""


def _detector_checks(parts: DetectorParts) -> dict[str, bool]:
    low, high = parts.fpn.levels
    anchors, nms = parts.anchors, parts.nms
    return {
        "levels must start at 3 and end at 5 to 8": low == 3 and 5 <= high <= 8,
        "fpn channels and cells must be above 0": min(parts.fpn.channels, parts.fpn.cells) > 0,
        f"fpn cells and head repeats must be at most {MOST_LAYERS}": (
            max(parts.fpn.cells, parts.head.repeats) <= MOST_LAYERS
        ),
        "head repeats must not be negative": parts.head.repeats >= 0,
        f"fpn {BATCH_NORM}": parts.fpn.batch_norm.is_valid,
        "nms iou_threshold must lie between 0 and 1": 0 <= nms.iou_threshold <= 1,
        "anchors need a scale, octaves and aspect_ratios above 0": (
            min(anchors.scale, anchors.octaves, *(anchors.aspect_ratios or (0,))) > 0
        ),
        "nms sigma and max_detections must be above 0": nms.sigma > 0 and nms.max_detections > 0,
        "nms max_inputs must not be below 0": nms.max_inputs >= 0,
    }


def _head_checks(spec: ModelSpec) -> dict[str, bool]:
    segment = spec.segment or SegmentSpec()
    names = f"{len(segment.labels)} segment labels for {segment.classes} mask classes"
    return {
        "only a detector has heads to choose": spec.is_detector or not (spec.heads or spec.segment),
        "heads names one twice": len(set(spec.heads)) == len(spec.heads),
        'the table [segment] needs "segment" among the heads': spec.segments or spec.segment is None,
        names: len(segment.labels) in (0, segment.classes),
        f"mask classes must be 2 to {MOST_MASK_CLASSES}, not {spec.mask_classes}": (
            not spec.segments or 2 <= spec.mask_classes <= MOST_MASK_CLASSES
        ),
    }
