"""File locks that the system releases when their process ends, even by kill -9.

They are flock's: held by an open file, so also by the child processes that inherit it.
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
    """Holds the lock `path`; waits for whoever holds it."""
    with path.open("a") as handle:
        _flock(handle, wait=True)
        yield


def try_lock(path: Path) -> IO[str] | None:
    """The lock's open file, which holds it until it is closed; None when somebody else has it."""
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
    """A name that no process had before, "HOST/SESSION/NAME"."""
    return f"{host or _host()}/{session}/{uuid.uuid4().hex[:8]}"


def session_of(owner: str) -> str:
    """The session in which a name was given."""
    return owner.split("/")[1]


@contextlib.contextmanager
def claimed(folder: Path, session: str) -> Iterator[str]:
    """A name for this process, with which others see whether it lives."""
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
    """Whether the process that claimed the name lives; None when it is on a machine that we cannot see."""
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
