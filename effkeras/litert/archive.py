"""Associated files of a .tflite: a zip archive behind the flatbuffer, as the format specifies.

The archive is not compressed: readers map the file into memory and read the entries in place.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

from effkeras.support.errors import EffkerasError

MOST_BYTES = 64 << 20
_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, OSError, ValueError, RuntimeError, EOFError)
_NEVER = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that equal files give equal bytes
_READABLE = 0o644 << 16


def append_files(flatbuffer: bytes, files: Mapping[str, bytes]) -> bytes:
    """Appends an archive of the files to the flatbuffer; returns it unchanged if there are no files."""
    if not files:
        return flatbuffer
    out = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _NEVER)
            entry.external_attr = _READABLE
            archive.writestr(entry, content)
    return out.getvalue()


def read_files(model: bytes) -> dict[str, bytes]:
    """The files in the archive behind a flatbuffer; empty if there is no archive.

    Raises EffkerasError for a damaged archive, or one that unpacks to more than 64 MiB.
    """
    if not zipfile.is_zipfile(io.BytesIO(model)):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            entries = archive.infolist()
            if not all(entry.compress_type in _KNOWN for entry in entries):
                raise zipfile.BadZipFile("it uses a compression that .tflite files do not support")
            if sum(entry.file_size for entry in entries) > MOST_BYTES:
                raise EffkerasError("the associated files in the .tflite are larger than 64 MiB")
            return {entry.filename: archive.read(entry) for entry in entries}
    except _BROKEN as error:
        raise EffkerasError(
            f"the associated files in the .tflite are damaged ({error}); export the model again"
        ) from error


def without_files(model: bytes) -> bytes:
    """The flatbuffer alone; the whole file if no readable archive follows it."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            return model[: min((entry.header_offset for entry in archive.infolist()), default=len(model))]
    except _BROKEN:
        return model
