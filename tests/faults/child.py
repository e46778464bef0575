"""A command in a process of its own, with a fault at a chosen write point.

Write points are named: "begin NAME" before the temporary file or folder of NAME is there, "before NAME" when
it is complete, "after NAME" when it has its name; the transactions of a search's store have the latter two.
What Python writes outside the command's folders is listed; on a read-only disk, what it writes is refused.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal
import sqlite3
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FAULTS = {"full": errno.ENOSPC, "memory": errno.ENOMEM}


@dataclass(frozen=True)
class Fault:
    """What happens at the write point of this number: "kill", or from then on "full" or "read-only".

    `limit` is the largest file in bytes that the process may write; None for no limit.
    """

    kind: str = ""
    point: int = 0
    limit: int | None = None


def load() -> None:
    """Imports what commands need, once for all processes that are forked afterwards. No operation runs."""
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import quantize.compression  # noqa: F401


def run(arguments: list[str], fault: Fault, log: Path, home: Path) -> None:
    """Runs `effkeras ARGUMENTS` in the folder of `log`.

    Its output, its write points and what it writes elsewhere are kept beside `log`. `home` has what libraries
    keep for a user.
    """
    os.setsid()
    atexit._clear()  # type: ignore[attr-defined]  # the exit handlers of the process that it is forked from
    os.chdir(log.parent)
    for channel, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(log.with_suffix(f".{name}"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), channel)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _at_home(home, temporary_of(log.parent))
    _arm(fault, log.with_suffix(".points"), home)
    from effkeras.cli import main

    code = 1
    try:
        code = main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    atexit._run_exitfuncs()  # type: ignore[attr-defined]  # its own, as at the end of any process
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # without what multiprocessing does at an end


def temporary_of(folder: Path) -> Path:
    """Where a command in a folder has its temporary files."""
    return folder.with_name(f"{folder.name}.tmp")


def _at_home(home: Path, temporary: Path) -> None:
    for folder in (home, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"HOME": str(home), "EFFKERAS_CACHE": str(home / "cache"), "TMPDIR": str(temporary)}
    tempfile.tempdir = None  # which was asked for before
    sys.dont_write_bytecode = True


def _arm(fault: Fault, points: Path, home: Path) -> None:
    from effkeras.support import files

    if fault.limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.limit, resource.RLIM_INFINITY))
    watch = _Watch(fault, points, home)
    for name in ("put_file", "put_folder"):
        setattr(files, name, _put(getattr(files, name), watch.point))
    for name in ("temporary_file", "temporary_folder"):
        setattr(files, name, _begun(getattr(files, name), watch.point))
    store = sys.modules.get("effkeras.search.trials.store")  # of commands that load it before
    if store:
        store._transaction = _committed(store._transaction, watch.point)
    sys.addaudithook(watch.hear)


class _Watch:
    """Counts and lists write points, lists what is written outside, and lets the fault happen."""

    def __init__(self, fault: Fault, points: Path, home: Path) -> None:
        self._fault, self._passed = fault, 0
        self._folder = points.parent
        self._own = (self._folder, temporary_of(self._folder), home, Path("/dev"), Path("/proc"))
        self._points, self._outside = (
            os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
            for file in (points, points.with_suffix(".outside"))
        )

    def point(self, name: str) -> None:
        """A write point is reached."""
        fault = self._fault
        self._passed += 1
        with contextlib.suppress(OSError):  # of a limit
            os.write(self._points, f"{name}\n".encode())
        if fault.point == self._passed and fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.kind in FAULTS and self._passed >= fault.point and not name.startswith("after"):
            raise _error(FAULTS[fault.kind], name)

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit event of Python."""
        is_read_only = self._fault.kind == "read-only" and self._passed >= self._fault.point
        for path in _written(event, arguments):
            if not any(path.is_relative_to(folder) for folder in self._own):
                os.write(self._outside, f"{event} {path}\n".encode(errors="replace"))
            if is_read_only and path.is_relative_to(self._folder):
                raise _error(errno.EROFS, str(path))


def _error(code: int, name: str) -> Exception:
    """The system's error for a file, or sqlite's for a store."""
    if name.endswith((".db", ".db-wal")):
        return sqlite3.OperationalError(f"{os.strerror(code)} ({name})")
    return OSError(code, os.strerror(code), name.removeprefix("before ").removeprefix("begin "))


_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# The positions of paths in Python's audit events, and how many arguments there are without open folders.
_CHANGES = {
    "os.mkdir": ((0,), 2),
    "os.remove": ((0,), 1),
    "os.rmdir": ((0,), 1),
    "os.rename": ((0, 1), 2),
    "os.link": ((1,), 2),
    "os.symlink": ((1,), 2),
    "os.truncate": ((0,), 2),
    "sqlite3.connect": ((0,), 1),
}


def _written(event: str, arguments: tuple[object, ...]) -> list[Path]:
    """The files that Python is about to write, make, move or remove, as far as an audit event tells."""
    if event == "open":
        path, _, flags = arguments
        found = [path] if isinstance(flags, int) and flags & _TO_WRITE else []
    elif event in _CHANGES:
        places, count = _CHANGES[event]
        found = [arguments[place] for place in places]
        if any(folder != -1 for folder in arguments[count:]):
            return []  # of names in an open folder, which `shutil.rmtree` removes
    else:
        return []
    names = (one for one in found if isinstance(one, str | bytes | os.PathLike))
    return [Path(os.path.normpath(Path.cwd() / os.fsdecode(name))) for name in names]


def _put(whole, point):
    def put(fresh, path):
        point(f"before {path.name}")
        whole(fresh, path)
        point(f"after {path.name}")

    return put


def _begun(whole, point):
    @contextlib.contextmanager
    def begun(path):
        point(f"begin {path.name}")
        with whole(path) as temporary:
            yield temporary

    return begun


def _committed(whole, point):
    @contextlib.contextmanager
    def transaction(connection):
        with whole(connection) as own:
            yield own
            point("before search.db")
        point("after search.db")

    return transaction
