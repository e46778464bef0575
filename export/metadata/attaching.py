"""TFLite Metadata in a .tflite: attached, read, restored after edgetpu_compiler, and written to disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effkeras.litert.archive import append_files, read_files, without_files
from effkeras.litert.edge_tpu import is_compiled
from effkeras.litert.flatbuffer import attach_all, attached
from effkeras.litert.interface import Interface, interface
from effkeras.litert.latency import InterpreterSession
from effkeras.litert.runner import DEFINITION, definition_of, make_interpreter, read_flatbuffer
from effkeras.litert.verify import verified
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.files import whole_file
from export.metadata.associated_files import check_labels, labels_in
from export.metadata.coding import from_bytes, to_bytes
from export.metadata.records import Metadata

TABLE = "TFLITE_METADATA"


def attach(flatbuffer: bytes, metadata: Metadata) -> bytes:
    """The file with metadata and its associated files, in place of older ones.

    The network and all other entries, such as effkeras' definition and recipe, stay as they are.

    Args:
        flatbuffer: the content of a .tflite.
        metadata: a note for each input and output, in the graph's order, and the bytes of every file noted.

    Raises:
        EffkerasError: the notes do not fit the graph, a file is missing or a label file is of the wrong
            length, or the .tflite is corrupt.
    """
    _check_files(metadata)
    _check_tensors(interface(flatbuffer), metadata)
    table = attach_all(without_files(flatbuffer), {TABLE: to_bytes(metadata)})
    return append_files(table, metadata.files)


def read(flatbuffer: bytes) -> Metadata | None:
    """The TFLite Metadata of a file, by whatever tool written; None where there is none.

    Raises EffkerasError when the .tflite, its metadata or its associated files are damaged.
    """
    table = attached(flatbuffer, TABLE)
    return from_bytes(table, read_files(flatbuffer)) if table else None


def restore(compiled: bytes, original: bytes) -> bytes:
    """What edgetpu_compiler drops: metadata, associated files, and effkeras' own entries.

    Args:
        compiled: the compiler's output.
        original: the file that it compiled.

    Returns:
        The compiled file with every entry of the original's metadata table that it lacks, and the original's
        TFLite Metadata and files, byte by byte.

    Raises:
        EffkerasError: the two have not the same inputs and outputs, or one is corrupt.
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
    """Writes a file that differs from `before` in its metadata, entries and associated files alone.

    It is read back as it lies on the disk and run on one image, as far as LiteRT runs it here: what is
    compiled for an Edge TPU only reads back. What was there stays when the look finds something.

    Args:
        file: the path.
        flatbuffer: the content.
        before: the content of a file with the same network.

    Raises:
        EffkerasError: it does not read back or computes something else, or it cannot be written.
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
        wanted = _outputs(before)
    except EffkerasError:
        return  # it has operators that LiteRT alone does not run
    for one, other in zip(wanted, _outputs(found), strict=True):
        if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise EffkerasError("it does not compute what it did before")


def _outputs(flatbuffer: bytes) -> list[np.ndarray]:
    interpreter = make_interpreter(flatbuffer)
    try:
        InterpreterSession.of(interpreter, flatbuffer).run()
    except (RuntimeError, ValueError) as error:
        raise EffkerasError(f"it does not run ({first_line(error)})") from error
    return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
