"""Unpacks archives that came over a network: regular files only, and only below their folder."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder

_ARCHIVES = (".tgz", ".tar.gz", ".tar")
_LIMIT = 32 * 2**30  # bytes; the largest published checkpoint has a tenth


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of a tar archive."""
    return path.name.endswith(_ARCHIVES)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar archive into a new folder, which appears whole or not at all.

    Raises EffkerasError for a damaged archive, and for one with links, devices, or paths that lead out.
    """
    make_folder(folder.parent)
    aside = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _check(members, archive)
            tar.extractall(aside, members, filter="data")
        aside.rename(folder)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise EffkerasError(f"cannot unpack {archive}: {error}; delete it and fetch it again") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _check(members: list[tarfile.TarInfo], archive: Path) -> None:
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise EffkerasError(f"{archive} is not safe to unpack: {member.name!r} leads out of its folder")
        if not (member.isfile() or member.isdir()):
            raise EffkerasError(f"{archive} is not safe to unpack: {member.name!r} is a link or a device")
    if sum(member.size for member in members) > _LIMIT:
        raise EffkerasError(f"{archive} is not safe to unpack: it holds more than {_LIMIT} bytes")
