"""Zip archives of foreign origin: checked before anything is unpacked into memory."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError, printable

LARGEST_JSON = 2**24  # bytes of a model's configuration; the zoo's largest has 2 MB
# A compressed member that expands beyond both limits is an attack: float weights hardly compress.
LARGEST_MEMBER = 2**28  # bytes
EXPANSION = 100
_MOST_MEMBERS = 10_000
_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_LONGEST = 200  # characters shown of a name from the file


def check_members(archive: zipfile.ZipFile, path: Path, largest: Callable[[str], int]) -> None:
    """Raises EffkerasError, naming `path`, for members that are larger than the file allows.

    A member may have `largest(name)` bytes, and beyond these up to a hundred times its bytes in the file. All
    members together have the same limit. Compressions other than deflate are refused, and encryption.
    """
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise EffkerasError(f"{path} is not safe to read: it has {len(members):,} members")
    stored, total = 0, 0
    for member in members:
        name = printable(member.filename, _LONGEST)
        if member.compress_type not in _KNOWN or member.flag_bits & _ENCRYPTED:
            raise EffkerasError(
                f"{path} is not safe to read: the compression of {name} is of an unknown kind"
            )
        # Members may overlap in a crafted file, and share its bytes.
        stored += member.compress_size
        total += member.file_size
        limit = largest(member.filename)
        if member.file_size > limit and (
            limit == LARGEST_JSON or member.file_size > EXPANSION * member.compress_size
        ):
            raise _expands(path, name, member.compress_size, member.file_size)
    size = path.stat().st_size
    if stored > size or total > max(2 * LARGEST_MEMBER, EXPANSION * size):
        raise _expands(path, "all of it", size, total)


def _expands(path: Path, what: str, small: int, large: int) -> EffkerasError:
    return EffkerasError(f"{path} is not safe to read: {what} expands from {small:,} to {large:,} bytes")


def read_json(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    """The content of a JSON member of at most 16 MiB; EffkerasError for a larger one.

    Other exceptions, from damaged files, reach the caller: RecursionError for deep ones among them.
    """
    with archive.open(name) as stream:
        content = stream.read(LARGEST_JSON + 1)
    if len(content) > LARGEST_JSON:
        raise EffkerasError(f"{path}: {name} has more than {LARGEST_JSON // 2**20} MiB, too much for a model")
    return json.loads(content)
