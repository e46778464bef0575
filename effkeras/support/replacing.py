"""How a file or folder takes the place of another: atomically, on the disk, and without leftovers.

What is being written has the name `.effkeras-PROCESS-...` and is locked by its process, until it gets its own
name. Nothing else begins so, and what no living process holds is removed by the next that writes beside it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effkeras.support.locks import flock_or_nothing

PREFIX = ".effkeras-"
NEW, OLD = "new", "old"  # in the temporary folder of a folder
_FEW = 64  # files that are synced one by one
_AT_CWD, _EXCHANGE = -100, 2  # of Linux's renameat2
_SWAP = 2  # of macOS's renamex_np
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """A new hidden file beside `path`, with its suffix; removed at the end if it is still there."""
    handle, name = tempfile.mkstemp(prefix=_prefix(), suffix=path.suffix, dir=path.parent)
    flock_or_nothing(handle, wait=False)
    try:
        if os.name == "nt":  # where an open file cannot be renamed
            os.close(handle)
        yield Path(name)
    finally:
        if os.name != "nt":
            os.close(handle)
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A new hidden folder beside `path`; removed at the end with all that is in it."""
    with tempfile.TemporaryDirectory(prefix=_prefix(), dir=path.parent, ignore_cleanup_errors=True) as name:
        handle = os.open(name, os.O_RDONLY) if os.name != "nt" else None
        try:
            if handle is not None:
                flock_or_nothing(handle, wait=False)
            yield Path(name)
        finally:
            if handle is not None:
                os.close(handle)


def _prefix() -> str:
    return f"{PREFIX}{os.getpid()}-"


def put_file(fresh: Path, path: Path) -> None:
    """Gives the file `fresh` the name `path`; both the content and the name are on the disk afterwards."""
    durable = _is_durable(path)
    if durable:
        _sync(fresh)
    fresh.replace(path)
    if durable:
        _sync_folder(path.parent)


def put_folder(aside: Path, path: Path) -> None:
    """Gives the folder NEW/NAME in `aside` the name `path`; what was there is moved into `aside`.

    Both change places in one step. Where the system cannot do that, `path` is missing between two renames,
    and `remove_strays` repairs it if the process was killed there.
    """
    fresh, durable = aside / NEW / path.name, _is_durable(path)
    if durable:
        _sync_all(fresh)
    if not os.path.lexists(path):
        fresh.rename(path)
    elif not exchange(fresh, path):
        _swap(fresh, path, aside / OLD / path.name)
    if durable:
        _sync_folder(path.parent)


def exchange(one: Path, other: Path) -> bool:
    """Lets two files or folders change places in one step; False where the system cannot."""
    import ctypes

    library: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    first, second = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(first, second, _SWAP)
    elif hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_CWD, first, _AT_CWD, second, _EXCHANGE)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _swap(fresh: Path, path: Path, old: Path) -> None:
    """Moves `path` to `old` and `fresh` to `path`; restores `path` when that fails."""
    old.parent.mkdir(exist_ok=True)
    path.rename(old)
    try:
        fresh.rename(path)
    except OSError:
        old.rename(path)
        raise


def remove_strays(folder: Path) -> None:
    """Removes what killed processes left unfinished in a folder; a folder that one had moved away returns.

    What a living process writes is kept: it holds a lock, even where its number means nothing here, as in
    another container.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        strays = [Path(one.path) for one in entries if one.name.startswith(PREFIX)]
        for path in filter(_is_abandoned, strays):
            if path.is_dir():
                _restore(path / OLD, folder)
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@functools.lru_cache(maxsize=256)
def remove_strays_once(folder: Path) -> None:
    """As `remove_strays`, but only at the first call for a folder."""
    remove_strays(folder)


def _restore(moved: Path, folder: Path) -> None:
    for old in moved.iterdir() if moved.is_dir() else ():
        if not os.path.lexists(folder / old.name):
            old.rename(folder / old.name)


def _is_abandoned(path: Path) -> bool:
    owner = path.name.removeprefix(PREFIX).split("-")[0]
    if not owner.isdecimal() or _runs(int(owner)):
        return False
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        return flock_or_nothing(handle, wait=False) is not False
    finally:
        os.close(handle)


def _runs(process: int) -> bool:
    """Whether another process of this number runs."""
    if process == os.getpid():
        return False  # it may be of an earlier container: then nothing of it is locked
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_durable(path: Path) -> bool:
    """Whether to wait for the disk: not in a folder that is synced as a whole at its end."""
    wanted = os.environ.get("EFFKERAS_FSYNC", "1") != "0"
    return wanted and not any(part.startswith(PREFIX) for part in path.parts)


def _sync_all(folder: Path) -> None:
    """Waits until a folder with all that is in it is on the disk."""
    inside = list(folder.rglob("*"))
    if len(inside) > _FEW and _sync_file_system(folder):
        return
    for path in inside:
        if path.is_dir():
            _sync_folder(path)
        elif path.is_file() and not path.is_symlink():
            _sync(path)
    _sync_folder(folder)


def _sync_file_system(folder: Path) -> bool:
    """Waits until the file system of a folder is on the disk; False where the system cannot do just that."""
    import ctypes

    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(library, "syncfs"):
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        return bool(library.syncfs(handle) == 0)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(handle)
