"""TFLite Metadata as frozen records.

The names are those of the published schema (`schema.toml`), limited to what vision models use.
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
    """The description of an associated file; its bytes are in `Metadata.files` under the same name."""

    name: str
    kind: FileKind = "UNKNOWN"
    description: str = ""
    locale: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """The content is an image; `size` is (height, width) if the tensor's shape is dynamic."""

    color_space: ColorSpace = "RGB"
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Boxes:
    """The content is boxes; `index` holds the positions of left, top, right and bottom (for BOUNDARIES)."""

    index: tuple[int, ...] = ()
    kind: BoxKind = "BOUNDARIES"
    coordinates: Coordinates = "RATIO"


@dataclass(frozen=True, slots=True)
class Features:
    """The content is plain numbers."""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a tensor; `dimensions` are the first and last dimension of one item (None: all)."""

    properties: Image | Boxes | Features | None = None
    dimensions: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Normalization:
    """Normalisation of pixels before the input: (x - mean) / std, one value for all channels or one each.

    The input of a quantized tensor is the result, quantized with its scale and zero point.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ScoreCalibration:
    """Scores become scale / (1 + exp(-(slope * g(score) + offset))), with parameters from the file."""

    transformation: ScoreTransformation = "IDENTITY"
    default_score: float = 0.0


@dataclass(frozen=True, slots=True)
class ScoreThreshold:
    """Lower scores are ignored."""

    score: float


Unit = Normalization | ScoreCalibration | ScoreThreshold


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """One input or output: its name in generated interfaces, its content and its processing.

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
    """Outputs that belong together, by the names in their `TensorMetadata`."""

    name: str
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """The complete metadata of a model.

    `inputs` and `outputs` are in the graph's order. `notes` describe the model's own associated files, and
    `files` holds the bytes of all. `custom` holds further entries by name.
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
        """All associated files: those of the model, then those of the tensors in their order."""
        tensors = (*self.inputs, *self.outputs)
        return (*self.notes, *(note for tensor in tensors for note in tensor.files))


OLDEST = "1.0.0"


def parser_version(metadata: Metadata) -> str:
    """The `min_parser_version`: the schema version that introduced the newest feature in use.

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
