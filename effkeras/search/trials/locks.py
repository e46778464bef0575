"""File locks that the system releases when their process ends, even by kill -9.

They use flock: an open file holds the lock, so child processes that inherit the file hold it too.
"""

from __future__ import annotations

import contextlib
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock `path`; waits until no other process holds it."""
    with path.open("a") as handle:
        _flock(handle, wait=True)
        yield


def try_lock(path: Path) -> IO[str] | None:
    """The open file that holds the lock until it is closed; None when another process has the lock."""
    make_folder(path.parent)
    handle = path.open("a")
    if _flock(handle, wait=False):
        return handle
    handle.close()
    return None


def is_held(path: Path) -> bool:
    """Whether a living process has the lock."""
    if not path.exists():
        return False
    handle = try_lock(path)
    if handle is not None:
        handle.close()
    return handle is None


def new_name(session: str, host: str = "") -> str:
    """A unique name for a process, "HOST/SESSION/NAME"."""
    return f"{host or _host()}/{session}/{uuid.uuid4().hex[:8]}"


def session_of(owner: str) -> str:
    """The session in an owner's name."""
    return owner.split("/")[1]


@contextlib.contextmanager
def claimed(folder: Path, session: str) -> Iterator[str]:
    """A name for this process and a lock that shows others that it is alive."""
    name = new_name(session)
    path = _path(folder, name)
    handle = try_lock(path)
    try:
        yield name
    finally:
        path.unlink(missing_ok=True)
        if handle is not None:
            handle.close()


def is_alive(folder: Path, owner: str) -> bool | None:
    """Whether the process with this name is alive; None when it is on another machine."""
    host = owner.split("/")[0]
    return is_held(_path(folder, owner)) if host == _host() else None


def remove_stale(folder: Path) -> None:
    """Removes the lock files of dead processes."""
    for path in folder.glob("process-*.lock"):
        if not is_held(path):
            path.unlink(missing_ok=True)


def _path(folder: Path, owner: str) -> Path:
    return folder / f"process-{owner.split('/')[-1]}.lock"


def _host() -> str:
    return platform.node() or "localhost"


def _flock(handle: IO[str], *, wait: bool) -> bool:
    try:
        import fcntl
    except ImportError as error:
        raise EffkerasError("a search needs file locks (flock): run it on Linux, macOS or WSL") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
