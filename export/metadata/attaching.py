"""Attaches, reads, changes and restores the TFLite Metadata of a .tflite, and writes the checked file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.litert.archive import append_files, read_files, without_files
from effkeras.litert.edge_tpu import is_compiled
from effkeras.litert.flatbuffer import Interface, interface
from effkeras.litert.latency import InterpreterSession
from effkeras.litert.metadata.associated_files import check_labels, labels_in
from effkeras.litert.metadata.coding import TABLE, read, to_bytes
from effkeras.litert.metadata.records import Metadata, Normalization, ScoreCalibration, TensorMetadata
from effkeras.litert.rewriting import attach_all, attached
from effkeras.litert.runner import DEFINITION, definition_of, make_interpreter, read_flatbuffer
from effkeras.litert.verify import verified
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.files import whole_file
from export.metadata.builders import CALIBRATION_FILE, IDENTITY, LABELS, Extras, of_model


def attach(flatbuffer: bytes, metadata: Metadata) -> bytes:
    """The file with this metadata and its associated files; they replace older ones.

    The network and all other entries, such as effkeras' definition and recipe, do not change.

    Args:
        flatbuffer: the content of a .tflite.
        metadata: one record for each input and output, in the graph's order, and the bytes of every
            associated file.

    Raises:
        EffkerasError: the metadata does not match the graph, a file is missing, a label file has the wrong
            number of lines, or the .tflite is corrupt.
    """
    _check_files(metadata)
    _check_tensors(interface(flatbuffer), metadata)
    table = attach_all(without_files(flatbuffer), {TABLE: to_bytes(metadata)})
    return append_files(table, metadata.files)


def restore(compiled: bytes, original: bytes) -> bytes:
    """Restores what edgetpu_compiler drops: metadata, associated files, and effkeras' own entries.

    Args:
        compiled: the compiler's output.
        original: the file that it compiled.

    Returns:
        The compiled file with every entry of the original's metadata table that it lacks, and the original's
        TFLite Metadata and files, byte by byte.

    Raises:
        EffkerasError: the two files have different inputs and outputs, or one of them is corrupt.
    """
    if _shapes(interface(compiled)) != _shapes(interface(original)):
        raise EffkerasError(
            "the compiled .tflite has other inputs and outputs than the original; "
            "give the file that edgetpu_compiler was run on"
        )
    kept = set(_entries(compiled)) - {TABLE}
    entries = {name: attached(original, name) or b"" for name in _entries(original) if name not in kept}
    return append_files(attach_all(without_files(compiled), entries), read_files(original))


def _entries(flatbuffer: bytes) -> list[str]:
    return [entry.get("name", "") for entry in verified(flatbuffer).get("metadata", [])]


def _shapes(found: Interface) -> list[tuple[str, tuple[int, ...]]]:
    return [(tensor.dtype, tensor.shape) for tensor in (*found.inputs, *found.outputs)]


def _check_files(metadata: Metadata) -> None:
    for note in metadata.associated_files:
        if note.name not in metadata.files:
            raise EffkerasError(f"the metadata names the file {note.name!r}, which is missing from its files")


def _check_tensors(found: Interface, metadata: Metadata) -> None:
    for what, notes, tensors in (
        ("inputs", metadata.inputs, found.inputs),
        ("outputs", metadata.outputs, found.outputs),
    ):
        if len(notes) != len(tensors):
            raise EffkerasError(
                f"the metadata describes {len(notes)} {what}, and the .tflite has {len(tensors)}"
            )
    for note, tensor in zip(metadata.outputs, found.outputs, strict=True):
        for file in note.files:
            if file.kind == "TENSOR_AXIS_LABELS" and tensor.shape:
                check_labels(labels_in(metadata.files[file.name], file.name), tensor.shape[-1], file.name)


def write_checked(file: Path, flatbuffer: bytes, before: bytes) -> None:
    """Writes a file that differs from `before` only in its metadata, entries and associated files.

    The written file is read back from disk and run on one image, and its outputs are compared with those of
    `before`. Files compiled for an Edge TPU, and those that LiteRT alone cannot run, are only read back. If
    the check fails, an existing file is kept.

    Args:
        file: the path.
        flatbuffer: the content.
        before: the content of a file with the same network.

    Raises:
        EffkerasError: the file cannot be written or read back, or its outputs differ.
    """
    with whole_file(file) as aside:
        aside.write_bytes(flatbuffer)
        try:
            _verify(read_flatbuffer(aside), before)
        except EffkerasError as error:
            raise EffkerasError(f"{file} is not written, as it would be damaged: {error}") from error


def _verify(found: bytes, before: bytes) -> None:
    read(found)
    if attached(found, DEFINITION) is not None:
        definition_of(found)
    if is_compiled(found):
        return
    try:
        expected = _outputs(before)
    except EffkerasError:
        return  # it has operators that LiteRT alone cannot run
    for one, other in zip(expected, _outputs(found), strict=True):
        if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise EffkerasError("it does not compute what it did before")


def _outputs(flatbuffer: bytes) -> list[np.ndarray]:
    interpreter = make_interpreter(flatbuffer)
    try:
        InterpreterSession.of(interpreter, flatbuffer).run()
    except (RuntimeError, ValueError) as error:
        raise EffkerasError(f"it does not run ({first_line(error)})") from error
    return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]


def with_labels(flatbuffer: bytes, labels: tuple[str, ...]) -> bytes:
    """An exported file with new class labels in its metadata and its definition.

    The network, all other entries and the rest of the metadata (normalisation, calibration of scores,
    version, author, license) do not change.

    Args:
        flatbuffer: the content of the file.
        labels: one for each class, in the model's order.

    Raises:
        EffkerasError: the number of labels is not that of classes, effkeras did not export the file, or it
            is damaged.
    """
    old = read(flatbuffer)
    return _described(flatbuffer, labels, old, Extras() if old is None else _extras(old))


def with_calibration(flatbuffer: bytes, how: ScoreCalibration, parameters: bytes) -> bytes:
    """An exported file with a score calibration in its metadata; it replaces an older one.

    Nothing else changes, as in `with_labels`.

    Args:
        flatbuffer: the content of the file.
        how: the transformation before calibration, and the score of classes without parameters.
        parameters: one line for each class; see `effkeras.litert.metadata.associated_files`.

    Raises:
        EffkerasError: the number of lines is not that of classes, a line is malformed, the model has no class
            scores, effkeras did not export the file, or it is damaged.
    """
    old, spec = read(flatbuffer), definition_of(flatbuffer)
    extras = replace(Extras() if old is None else _extras(old), calibration=(how, parameters))
    made = _described(flatbuffer, _labels(old, spec), old, extras)
    found = read(made)
    if found is None or not any(True for note in found.outputs for _ in _calibrations(note, found)):
        raise EffkerasError(f"{spec.name} has no scores of classes, which alone can be calibrated")
    return made


def _described(flatbuffer: bytes, labels: tuple[str, ...], old: Metadata | None, extras: Extras) -> bytes:
    """The file with new metadata, and with the labels in its definition as well."""
    spec = definition_of(flatbuffer).replace(labels=labels)
    named = attach_all(flatbuffer, {DEFINITION: spec.to_toml().encode()})
    made = of_model(spec, labels, named, extras)
    if old is not None:
        made = replace(made, version=old.version, author=old.author, license=old.license)
    return attach(named, made)


def _labels(old: Metadata | None, spec: ModelSpec) -> tuple[str, ...]:
    """The class labels: from the metadata if it has them, else from the definition."""
    if old is None or LABELS not in old.files:
        return spec.labels
    return labels_in(old.files[LABELS], LABELS)


def _extras(old: Metadata) -> Extras:
    """The parts of the metadata that cannot be derived from the file: normalisation and calibration."""
    normalization = next((one for note in old.inputs for one in _normalizations(note)), IDENTITY)
    return Extras(
        normalization, next((one for note in old.outputs for one in _calibrations(note, old)), None)
    )


def _normalizations(note: TensorMetadata) -> Iterator[Normalization]:
    yield from (unit for unit in note.units if isinstance(unit, Normalization))


def _calibrations(note: TensorMetadata, old: Metadata) -> Iterator[tuple[ScoreCalibration, bytes]]:
    files = [old.files[file.name] for file in note.files if file.kind == CALIBRATION_FILE]
    units = [unit for unit in note.units if isinstance(unit, ScoreCalibration)]
    yield from zip(units, files, strict=False)
