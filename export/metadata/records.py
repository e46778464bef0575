"""TFLite Metadata as frozen records.

The vocabulary is that of the published schema (`schema.toml`), reduced to what vision models use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

FileKind = Literal[
    "UNKNOWN",
    "DESCRIPTIONS",
    "TENSOR_AXIS_LABELS",
    "TENSOR_VALUE_LABELS",
    "TENSOR_AXIS_SCORE_CALIBRATION",
    "VOCABULARY",
    "SCANN_INDEX_FILE",
]
ColorSpace = Literal["UNKNOWN", "RGB", "GRAYSCALE"]
BoxKind = Literal["UNKNOWN", "BOUNDARIES", "UPPER_LEFT", "CENTER"]
Coordinates = Literal["RATIO", "PIXEL"]
ScoreTransformation = Literal["IDENTITY", "LOG", "INVERSE_LOGISTIC"]


@dataclass(frozen=True, slots=True)
class AssociatedFile:
    """What an associated file is for; its bytes are in `Metadata.files` under the same name."""

    name: str
    kind: FileKind = "UNKNOWN"
    description: str = ""
    locale: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """The content is an image; `size` is (height, width) where the tensor leaves it open."""

    color_space: ColorSpace = "RGB"
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Boxes:
    """The content is boxes; `index` says where left, top, right and bottom (of BOUNDARIES) are found."""

    index: tuple[int, ...] = ()
    kind: BoxKind = "BOUNDARIES"
    coordinates: Coordinates = "RATIO"


@dataclass(frozen=True, slots=True)
class Features:
    """The content is numbers of no special kind."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a tensor holds; `dimensions` are the first and last that one item of it fills, None for all."""

    properties: Image | Boxes | Features | None = None
    dimensions: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Normalization:
    """What is done to pixels before they enter: (x - mean) / std, one value for all channels or one each.

    A quantized tensor takes the result in its own scale and zero point.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ScoreCalibration:
    """Scores become scale / (1 + exp(-(slope * g(score) + offset))) by the associated file's parameters."""

    transformation: ScoreTransformation = "IDENTITY"
    default_score: float = 0.0


@dataclass(frozen=True, slots=True)
class ScoreThreshold:
    """Scores below are of no interest."""

    score: float


Unit = Normalization | ScoreCalibration | ScoreThreshold


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """One input or output: its name in generated interfaces, what it holds and how it is processed.

    `low` and `high` are the smallest and largest value, one for all channels or one each.
    """

    name: str
    description: str = ""
    content: Content | None = None
    units: tuple[Unit, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    files: tuple[AssociatedFile, ...] = ()
    axes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Outputs that belong together, by the names of their notes."""

    name: str
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """All that is said of a model.

    `inputs` and `outputs` are in the order of the graph's. `files` holds every associated file's bytes,
    `custom` further entries that a reader may know by name.
    """

    name: str
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    notes: tuple[AssociatedFile, ...] = ()
    custom: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def associated_files(self) -> tuple[AssociatedFile, ...]:
        """The notes of all associated files: the model's own, then those of tensors in their order."""
        tensors = (*self.inputs, *self.outputs)
        return (*self.notes, *(note for tensor in tensors for note in tensor.files))


OLDEST = "1.0.0"


def parser_version(metadata: Metadata) -> str:
    """The `min_parser_version`: the version of the schema that brought the newest of what is used.

    Source: the history in metadata_schema.fbs.
    """
    return max(_versions(metadata))


def _versions(metadata: Metadata) -> Iterator[str]:
    yield OLDEST
    files = metadata.associated_files
    if any(note.kind == "VOCABULARY" for note in files):
        yield "1.0.1"
    if metadata.groups:
        yield "1.2.0"
    if any(note.kind == "SCANN_INDEX_FILE" for note in files):
        yield "1.4.0"
    if any(note.version for note in files):
        yield "1.4.1"
    if metadata.custom:
        yield "1.5.0"
