"""Rejects weights files that refer to another file, or declare more than they hold.

HDF5 can store an array's values in another file, map them from one, or link to a group there. Reading
such a file would copy the content of any file that the user may open into the model. It can also declare
arrays of any shape and store none of their values, or a few bytes that expand to gigabytes.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import h5py
from h5py import h5d, h5g, h5l, h5o, h5t, h5z

from effkeras.support.archives import EXPANSION, LARGEST_JSON, LARGEST_MEMBER, check_members, read_json
from effkeras.support.errors import EffkerasError, printable

_SUFFIXES = (".h5", ".hdf5")
_CONFIGS = ("config.json", "metadata.json")
_UNREAD = (".npz", ".npy")  # Keras reads such weights too, which effkeras and Keras's `save` never write
_LOCAL_HEADER = struct.Struct("<26xHH")  # the lengths of a member's name and of its extra field
_LONGEST = 200  # characters shown of a name from the file
_SLACK = 2**24  # bytes that all arrays may have beyond what the file's size allows
_PAGE = 2**12  # the same for one array that is compressed
# Filters that HDF5 has built in; for others it loads a plugin from a folder of the system.
_FILTERS = frozenset({h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32})
_NUMBERS = frozenset({h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.BITFIELD, h5t.STRING})


def check_file(path: Path) -> int:
    """The bytes of all arrays in a `.keras` or HDF5 file.

    Raises EffkerasError if the file refers to another file, or declares more bytes than its size allows. It
    reads only the structure, no weights (compressed ones are unpacked chunk by chunk), and writes nothing to
    disk. Other exceptions, from damaged files, reach the caller.
    """
    if path.suffix == ".keras":
        return _check_archive(path)
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            return check_hdf5(file, path)
    return 0


def _check_archive(path: Path) -> int:
    size = 0
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path, _largest)
        for name in _CONFIGS:
            if name in archive.namelist():
                read_json(archive, name, path)  # Keras reads it with a stack that deep nesting would overflow
        for member in archive.infolist():
            if member.filename.endswith(_UNREAD):
                name = printable(member.filename, _LONGEST)
                raise EffkerasError(f"{path} is not safe to read: it has weights in {name}; save it as .h5")
            if member.filename.endswith(_SUFFIXES):
                with _content(archive, member) as content, h5py.File(content) as file:
                    size += check_hdf5(file, path)
    return size


def _largest(name: str) -> int:
    return LARGEST_MEMBER if name.endswith(_SUFFIXES) else LARGEST_JSON


def check_hdf5(file: h5py.File, path: Path) -> int:
    """The bytes of all arrays in an open HDF5 file.

    Raises EffkerasError, naming `path`, if it refers to another file: by external storage, virtual datasets,
    and links to other files. Soft links stay inside the file unless they pass through a link to another file,
    and every such link is found at its own place. It raises the same for arrays that hold no numbers, need a
    filter that HDF5 would load from elsewhere, or are larger than a hundred times the file.
    """
    size, limit = 0, EXPANSION * path.stat().st_size + _SLACK
    for place, item in _objects(file):
        problem = item if isinstance(item, str) else _problem(item)
        if not problem and not isinstance(item, str):
            size += _bytes(item)
            if size > limit:
                problem = f"declares {size:,} bytes of values, and the file has {path.stat().st_size:,}"
        if problem:
            raise EffkerasError(
                f"{path} is not safe to read: {printable(place, _LONGEST)} {problem}; "
                "get the weights as a file that holds all its values"
            )
    return size


def _objects(file: h5py.File) -> Iterator[tuple[str, h5d.DatasetID | str]]:
    """The place of each array with the array, and of each link to another file with what it is.

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
                yield _place(group, name), "is a link to another file"
                continue
            item = h5o.open(group, name)
            address = h5o.get_info(item).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5g.GroupID):
                groups.append(item)
            elif isinstance(item, h5d.DatasetID):
                yield _place(group, name), item


def _links(group: h5g.GroupID) -> list[tuple[bytes, int]]:
    """Names and kinds of a group's links."""
    found: list[tuple[bytes, int]] = []
    group.links.iterate(lambda name, link: found.append((name, link.type)), info=True)
    return found


def _bytes(dataset: h5d.DatasetID) -> int:
    return math.prod(dataset.shape) * dataset.get_type().get_size()


def _problem(dataset: h5d.DatasetID) -> str:
    """Why an array must not be read; "" if it may."""
    made = dataset.get_create_plist()
    if made.get_external_count():
        return "has its values in another file (external storage)"
    if made.get_layout() == h5d.VIRTUAL:
        return "has its values in other datasets (virtual dataset)"
    kind = dataset.get_type()
    if kind.get_class() not in _NUMBERS or (isinstance(kind, h5t.TypeStringID) and kind.is_variable_str()):
        return "" if math.prod(dataset.shape) <= 1 else "holds no numbers"
    filters = [made.get_filter(index)[0] for index in range(made.get_nfilters())]
    declared, stored = _bytes(dataset), dataset.get_storage_size()
    if declared > (EXPANSION * stored + _PAGE if filters else stored):
        return f"declares {declared:,} bytes of values and holds {stored:,}"
    if not _FILTERS.issuperset(filters) or filters.count(h5z.FILTER_DEFLATE) > 1:
        return "needs a filter that Keras never writes"
    return _bomb(dataset, filters) if h5z.FILTER_DEFLATE in filters else ""


def _bomb(dataset: h5d.DatasetID, filters: list[int]) -> str:
    """A problem text for a compressed chunk that expands to more than a chunk; HDF5 unpacks all of it."""
    most = math.prod(dataset.get_create_plist().get_chunk()) * dataset.get_type().get_size() + 64
    masked = 1 << filters.index(h5z.FILTER_DEFLATE)
    offsets: list[Any] = []
    dataset.chunk_iter(lambda chunk: offsets.append(chunk.chunk_offset))
    for offset in offsets:
        mask, content = dataset.read_direct_chunk(offset)
        if not mask & masked and len(zlib.decompressobj().decompress(content, most)) >= most:
            return "has a chunk that expands beyond its shape"
    return ""


def _place(group: h5g.GroupID, name: bytes) -> str:
    folder = (h5py.h5i.get_name(group) or b"").rstrip(b"/")
    return (folder + b"/" + name).decode(errors="replace")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """A member's bytes as a file: in place if they are not compressed, else in memory."""
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
