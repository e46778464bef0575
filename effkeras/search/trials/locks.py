"""The names of a search's processes, and the locks that show which of them are alive."""

from __future__ import annotations

import contextlib
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path

from effkeras.support.locks import is_held, try_lock


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
