"""TFLite Metadata in a .tflite: put in, read out, and put back after edgetpu_compiler."""

from __future__ import annotations

from effkeras.errors import EffkerasError
from effkeras.litert.archive import append_files, read_files, without_files
from effkeras.litert.flatbuffer import attach_all, attached
from effkeras.litert.interface import Interface, interface
from effkeras.litert.verify import verified
from export.metadata.coding import from_bytes, to_bytes
from export.metadata.labels import check_labels, labels_in
from export.metadata.notes import Metadata

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


def put_back(compiled: bytes, original: bytes) -> bytes:
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


def _shapes(edges: Interface) -> list[tuple[str, tuple[int, ...]]]:
    return [(edge.dtype, edge.shape) for edge in (*edges.inputs, *edges.outputs)]


def _check_files(metadata: Metadata) -> None:
    for note in metadata.noted_files:
        if note.name not in metadata.files:
            raise EffkerasError(f"the metadata speaks of a file {note.name!r}, which is not among its files")


def _check_tensors(edges: Interface, metadata: Metadata) -> None:
    for what, notes, tensors in (
        ("inputs", metadata.inputs, edges.inputs),
        ("outputs", metadata.outputs, edges.outputs),
    ):
        if len(notes) != len(tensors):
            raise EffkerasError(f"the metadata notes {len(notes)} {what}, and the .tflite has {len(tensors)}")
    for note, edge in zip(metadata.outputs, edges.outputs, strict=True):
        for file in note.files:
            if file.kind == "TENSOR_AXIS_LABELS" and edge.shape:
                check_labels(labels_in(metadata.files[file.name], file.name), edge.shape[-1], file.name)
