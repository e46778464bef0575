"""Rejects weights files that refer to another file; every value must be in the file itself.

HDF5 can store an array's values in another file, map them from one, or link to a group there. Reading
such a file would copy the content of any file that the user may open into the model.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import h5py
from h5py import h5d, h5g, h5l, h5o

from effkeras.support.console import printable
from effkeras.support.errors import EffkerasError

_SUFFIXES = (".h5", ".hdf5")
_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# A compressed member that expands beyond both limits is an attack: float weights hardly compress.
_LARGEST = 2**28  # bytes
_EXPANSION = 100
_LOCAL_HEADER = struct.Struct("<26xHH")  # the lengths of a member's name and of its extra field
_LONGEST = 200  # characters shown of a name from the file


def check_file(path: Path) -> None:
    """Raises EffkerasError if a `.keras` or HDF5 file refers to another file.

    It reads only the structure, no weights, and writes nothing to disk. Other exceptions, from damaged files,
    reach the caller.
    """
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(_SUFFIXES):
                    with _content(archive, member, path) as content, h5py.File(content) as file:
                        check_hdf5(file, path)
    elif h5py.is_hdf5(path):
        with h5py.File(path) as file:
            check_hdf5(file, path)


def check_hdf5(file: h5py.File, path: Path) -> None:
    """Raises EffkerasError, naming `path`, if an open HDF5 file refers to another file.

    It rejects external storage, virtual datasets, and links to other files. Soft links stay inside the file
    unless they pass through a link to another file, and every such link is found at its own place.
    """
    found = next(_references(file), "")
    if found:
        raise EffkerasError(
            f"{path} is not safe to read: {printable(found, _LONGEST)}; "
            "get the weights as a file that holds all its values"
        )


def _references(file: h5py.File) -> Iterator[str]:
    """Descriptions of the references from a file to another one.

    Each object is visited once, identified by its address: hard links may form a cycle.
    """
    groups: list[Any] = [h5g.open(file.id, b"/")]
    seen = {h5o.get_info(groups[0]).addr}
    while groups:
        group = groups.pop()
        for name, kind in _links(group):
            if kind == h5l.TYPE_SOFT:
                continue
            if kind != h5l.TYPE_HARD:
                yield f"{_place(group, name)} is a link to another file"
                continue
            item = h5o.open(group, name)
            address = h5o.get_info(item).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5g.GroupID):
                groups.append(item)
            elif isinstance(item, h5d.DatasetID) and (how := _stored_elsewhere(item)):
                yield f"the values of {_place(group, name)} are {how}"


def _links(group: h5g.GroupID) -> list[tuple[bytes, int]]:
    """Names and kinds of a group's links."""
    found: list[tuple[bytes, int]] = []
    group.links.iterate(lambda name, link: found.append((name, link.type)), info=True)
    return found


def _stored_elsewhere(dataset: h5d.DatasetID) -> str:
    made = dataset.get_create_plist()
    if made.get_external_count():
        return "in another file (external storage)"
    return "those of other datasets (virtual dataset)" if made.get_layout() == h5d.VIRTUAL else ""


def _place(group: h5g.GroupID, name: bytes) -> str:
    folder = (h5py.h5i.get_name(group) or b"").rstrip(b"/")
    return (folder + b"/" + name).decode(errors="replace")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> IO[bytes]:
    """A member's bytes as a file: in place if they are not compressed, else in memory."""
    if member.compress_type not in _KNOWN:
        raise EffkerasError(f"{path} is not safe to read: Keras never writes this compression")
    if member.file_size > max(_LARGEST, _EXPANSION * member.compress_size):
        raise EffkerasError(
            f"{path} is not safe to read: {printable(member.filename, _LONGEST)} expands from "
            f"{member.compress_size:,} to {member.file_size:,} bytes"
        )
    with archive.open(member) as content:  # this checks the member's own header
        if member.compress_type != zipfile.ZIP_STORED:
            return io.BytesIO(content.read())
    file = archive.fp
    assert file is not None
    file.seek(member.header_offset)
    start = member.header_offset + _LOCAL_HEADER.size
    start += sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size)))
    return io.BufferedReader(_Part(file, start, min(member.file_size, member.compress_size)))


class _Part(io.RawIOBase):
    """A part of a file, without a copy; zipfile's own file objects read from the start to seek."""

    def __init__(self, file: IO[bytes], start: int, size: int):
        self._file, self._start, self._size = file, start, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        found = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)
