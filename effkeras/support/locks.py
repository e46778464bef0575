"""File locks that the system releases when their process ends, even by kill -9.

They use flock: an open file holds the lock, so child processes that inherit the file hold it too.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from effkeras.support.errors import EffkerasError

_NAME = ".lock"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock `path`; waits until no other process holds it."""
    with path.open("a") as handle:
        flock(handle, wait=True)
        yield


def try_lock(path: Path) -> IO[str] | None:
    """The open file that holds the lock until it is closed; None when another process has the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a")
    if flock(handle, wait=False):
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


@contextlib.contextmanager
def working_in(folder: Path, work: str) -> Iterator[None]:
    """Holds a folder for one command, such as "effkeras train"; makes it, and removes it if it stays empty.

    Raises EffkerasError, which says who works there, while another process holds it, and when the folder
    cannot be made or written.
    """
    with _present(folder), _exclusive(folder / _NAME, folder, work):
        yield


@contextlib.contextmanager
def working_on(path: Path, work: str) -> Iterator[None]:
    """Holds a file or folder that a command will write, by a lock beside it; the rest as `working_in`."""
    with _present(path.parent), _exclusive(path.with_name(f".{path.name}{_NAME}"), path, work):
        yield


@contextlib.contextmanager
def _present(folder: Path) -> Iterator[None]:
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EffkerasError(f"cannot create the folder {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # what holds something stays
            for one in made:
                one.rmdir()


@contextlib.contextmanager
def appending_to(path: Path) -> Iterator[None]:
    """Holds a file for a moment, to add to it; waits until no other process does."""
    aside = path.with_name(f".{path.name}{_NAME}")
    while True:
        handle = aside.open("a")
        if not flock_or_nothing(handle, wait=True) or _is_at(handle, aside):
            break
        handle.close()  # its last holder has removed it
    with handle:
        try:
            yield
        finally:
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _exclusive(lock: Path, what: Path, work: str) -> Iterator[None]:
    while True:
        try:
            handle = lock.open("a+", encoding="utf-8")
        except OSError as error:
            raise EffkerasError(f"cannot write in {lock.parent}: {error.strerror}") from error
        if flock_or_nothing(handle, wait=False) is False:
            with handle:
                handle.seek(0)
                who = handle.read(200).strip() or "another command"
            raise EffkerasError(f"{who} works on {what}; wait until it has ended, or give another --out")
        if _is_at(handle, lock):
            break
        handle.close()  # its last holder has removed it
    with handle:
        try:
            with contextlib.suppress(OSError):  # a full disk: the lock holds, but says nobody
                handle.truncate(0)
                handle.write(_signature(work))
                handle.flush()
            yield
        finally:
            lock.unlink(missing_ok=True)


def _signature(work: str) -> str:
    since = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    return f"{work} (process {os.getpid()} on {platform.node() or 'localhost'}, since {since})\n"


def _is_at(handle: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def flock(handle: IO[Any] | int, *, wait: bool) -> bool:
    """Locks an open file; False when another process has the lock. EffkerasError where there are no locks."""
    try:
        import fcntl
    except ImportError as error:
        raise EffkerasError("a search needs file locks (flock): run it on Linux, macOS or WSL") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def flock_or_nothing(handle: IO[Any] | int, *, wait: bool) -> bool | None:
    """As `flock`; None on systems and file systems without locks, which then go without."""
    try:
        return flock(handle, wait=wait)
    except (EffkerasError, OSError):
        return None
