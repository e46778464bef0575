"""Builds the metadata of effkeras' models from the definition and the .tflite."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from effkeras.definitions.definition import ModelSpec
from effkeras.litert.flatbuffer import IOTensor, gives_probabilities, interface, operators
from effkeras.litert.metadata.associated_files import calibration_file, check_labels, label_file
from effkeras.litert.metadata.coding import DETECTOR_ENTRY, detector_options
from effkeras.litert.metadata.records import (
    AssociatedFile,
    Boxes,
    Content,
    Features,
    FileKind,
    Group,
    Image,
    Metadata,
    Normalization,
    ScoreCalibration,
    TensorMetadata,
    Unit,
)
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table, read_toml

OUTPUTS = Path(__file__).with_name("outputs.toml")
LABELS = "labels.txt"
MASK_LABELS = "mask_labels.txt"
CALIBRATION = "score_calibration.csv"
CALIBRATION_FILE: FileKind = "TENSOR_AXIS_SCORE_CALIBRATION"
POST_PROCESS = "TFLite_Detection_PostProcess"
IDENTITY = Normalization((0.0,), (1.0,))

# Boxes are ymin, xmin, ymax, xmax; the schema wants the positions of left, top, right and bottom.
_Y_X_Y_X = Boxes((1, 0, 3, 2))
_EACH = (2, 2)  # every box of (1, N) or (1, N, 4) is one item
_PROBABILITY = ((0.0,), (1.0,))


@dataclass(frozen=True, slots=True)
class Extras:
    """Metadata that cannot be derived from the file.

    `normalization` is the normalisation of pixels 0..255 that a float input expects. `calibration` is how
    scores are calibrated, and a CSV with scale, slope, offset and optional smallest score for each class.
    """

    normalization: Normalization = IDENTITY
    calibration: tuple[ScoreCalibration, bytes] | None = None


def of_model(
    spec: ModelSpec, labels: Sequence[str], flatbuffer: bytes, extras: Extras | None = None
) -> Metadata:
    """The metadata of a classifier's or a detector's .tflite; see `of_classifier` and `of_detector`."""
    return (of_detector if spec.is_detector else of_classifier)(spec, labels, flatbuffer, extras)


def of_classifier(
    spec: ModelSpec, labels: Sequence[str], flatbuffer: bytes, extras: Extras | None = None
) -> Metadata:
    """The metadata of a classifier's .tflite.

    Args:
        spec: the model's definition.
        labels: a name for each class, in the model's order; empty for no label file.
        flatbuffer: the content of the .tflite, with one input and one output.
        extras: normalisation and calibration.

    Raises:
        EffkerasError: the number of labels or calibration lines is not that of classes, there is not exactly
            one input and one output, or the file is corrupt.
    """
    extras = extras or Extras()
    found = interface(flatbuffer)
    if len(found.outputs) != 1:
        raise EffkerasError(f"a classifier has one output, and this .tflite has {len(found.outputs)}")
    files = _files(spec, labels, extras)
    note = _named("class", found.outputs[0])
    low, high = _PROBABILITY if gives_probabilities(flatbuffer) else ((), ())
    note = replace(note, low=low, high=high, files=_label_notes(files, "TENSOR_AXIS_LABELS"))
    return _model(spec, found.inputs, (_calibrated(note, extras),), files, extras)


def of_detector(
    spec: ModelSpec, labels: Sequence[str], flatbuffer: bytes, extras: Extras | None = None
) -> Metadata:
    """The metadata of a detector's .tflite, with or without NMS in its graph.

    Without NMS, the anchors and the decoding of boxes go into the entry DETECTOR_METADATA, which MediaPipe
    and `effkeras.litert.metadata.coding.anchors_in` read.

    Args:
        spec: the model's definition.
        labels: a name for each class, in the model's order; empty for no label file.
        flatbuffer: the content of the .tflite, with one input.
        extras: normalisation and calibration.

    Raises:
        EffkerasError: the number of labels or calibration lines is not that of classes, there is not exactly
            one input, the outputs are not those of a detector, or the file is corrupt.
    """
    extras = extras or Extras()
    found = interface(flatbuffer)
    roles = _roles(flatbuffer, found.outputs)
    files = _files(spec, labels, extras)
    if "mask" in roles and spec.mask_labels:
        files[MASK_LABELS] = label_file(spec.mask_labels)
    notes = tuple(
        _output_note(role, tensor, files, extras) for role, tensor in zip(roles, found.outputs, strict=True)
    )
    made = _model(spec, found.inputs, notes, files, extras)
    if "raw_location" in roles:
        return replace(made, custom={DETECTOR_ENTRY: detector_options(spec)})
    grouped = tuple(_note_table(role)["name"] for role in ("location", "category", "score"))
    return replace(made, groups=(Group("detection_result", grouped),)) if "location" in roles else made


def _model(
    spec: ModelSpec,
    inputs: Sequence[IOTensor],
    outputs: tuple[TensorMetadata, ...],
    files: Mapping[str, bytes],
    extras: Extras,
) -> Metadata:
    if len(inputs) != 1:
        raise EffkerasError(f"a vision model takes one image, and this .tflite has {len(inputs)} inputs")
    return Metadata(
        name=spec.name,
        description=spec.summary,
        inputs=(_input_note(inputs[0], extras.normalization),),
        outputs=outputs,
        files=files,
    )


def _input_note(tensor: IOTensor, normalization: Normalization) -> TensorMetadata:
    low, high = _limits(tensor, normalization)
    return TensorMetadata(
        name="image",
        description=f"RGB image of {tensor.shape[1]} x {tensor.shape[2]} pixels, {tensor.dtype}",
        content=Content(Image()),
        units=(_affine(tensor) or normalization,),
        low=low,
        high=high,
    )


def _affine(tensor: IOTensor) -> Normalization | None:
    """The normalisation of a quantized input, whose integer is the pixel (minus 128 in int8)."""
    if tensor.scale is None or tensor.zero_point is None:
        return None
    black = -128 if tensor.dtype == "int8" else 0
    return Normalization((float(tensor.zero_point - black),), (1.0 / tensor.scale,))


def _limits(tensor: IOTensor, normalization: Normalization) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The smallest and largest value of the input, in its own number format."""
    if tensor.dtype == "int8":
        return (-128.0,), (127.0,)
    if tensor.dtype == "uint8":
        return (0.0,), (255.0,)
    pairs = list(zip(normalization.mean, normalization.std, strict=True))
    return tuple((0 - mean) / std for mean, std in pairs), tuple((255 - mean) / std for mean, std in pairs)


def _roles(flatbuffer: bytes, outputs: Sequence[IOTensor]) -> list[str]:
    graph = operators(flatbuffer)
    if graph and graph[-1].name == POST_PROCESS:
        made = [tensor.index for tensor in graph[-1].outputs]
        roles = dict(zip(made, ("location", "category", "score", "count"), strict=False))
        return [roles.get(tensor.tensor, "") for tensor in outputs]
    names = _outputs()["names"]
    roles_found = [names.get(tensor.name, "") for tensor in outputs]
    if not any(roles_found):
        given = ", ".join(tensor.name for tensor in outputs)
        raise EffkerasError(
            f"the outputs {given} are not those of a detector; export the model with effkeras"
        )
    return roles_found


def _output_note(role: str, tensor: IOTensor, files: Mapping[str, bytes], extras: Extras) -> TensorMetadata:
    note = _named(role, tensor)
    if role == "location":
        return replace(note, content=Content(_Y_X_Y_X, _EACH))
    if role == "category":
        labels = _label_notes(files, "TENSOR_VALUE_LABELS")
        return replace(note, content=Content(Features(), _EACH), files=labels)
    if role == "score":
        low, high = _PROBABILITY
        note = replace(note, content=Content(Features(), _EACH), low=low, high=high)
        return _calibrated(note, extras)
    if role == "raw_location":
        return replace(note, content=Content(_Y_X_Y_X))  # MediaPipe reads the order of y and x from it
    if role == "raw_score":
        return _calibrated(replace(note, files=_label_notes(files, "TENSOR_AXIS_LABELS")), extras)
    if role == "mask" and MASK_LABELS in files:
        return replace(note, files=(AssociatedFile(MASK_LABELS, "TENSOR_AXIS_LABELS", "Classes of a pixel"),))
    return note


def _named(role: str, tensor: IOTensor) -> TensorMetadata:
    table = _note_table(role) if role else {"name": tensor.name}
    return TensorMetadata(table["name"], table.get("description", ""), Content(Features()))


def _calibrated(note: TensorMetadata, extras: Extras) -> TensorMetadata:
    if extras.calibration is None:
        return note
    units: tuple[Unit, ...] = (*note.units, extras.calibration[0])
    file = AssociatedFile(CALIBRATION, CALIBRATION_FILE, "Scale, slope, offset of each class")
    return replace(note, units=units, files=(*note.files, file))


def _files(spec: ModelSpec, labels: Sequence[str], extras: Extras) -> dict[str, bytes]:
    files = {}
    if labels:
        check_labels(labels, spec.classes, f"the labels of {spec.name}")
        files[LABELS] = label_file(labels)
    if extras.calibration is not None:
        files[CALIBRATION] = calibration_file(extras.calibration[1], spec.classes, "the score calibration")
    return files


def _label_notes(files: Mapping[str, bytes], kind: str) -> tuple[AssociatedFile, ...]:
    note = AssociatedFile(LABELS, kind, "Names of the classes, one a line")  # type: ignore[arg-type]
    return (note,) if LABELS in files else ()


def _note_table(role: str) -> Table:
    return _outputs()["notes"][role]


@functools.cache
def _outputs() -> Table:
    return read_toml(OUTPUTS)
