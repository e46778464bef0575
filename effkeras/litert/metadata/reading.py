"""Reads the TFLite Metadata of a .tflite, whichever tool wrote it."""

from __future__ import annotations

from effkeras.litert.archive import read_files
from effkeras.litert.metadata.coding import from_bytes
from effkeras.litert.metadata.records import Metadata
from effkeras.litert.rewriting import attached

TABLE = "TFLITE_METADATA"


def read(flatbuffer: bytes) -> Metadata | None:
    """The TFLite Metadata of a file; None if the file has none.

    Raises EffkerasError when the .tflite, its metadata or its associated files are damaged.
    """
    table = attached(flatbuffer, TABLE)
    return from_bytes(table, read_files(flatbuffer)) if table else None
