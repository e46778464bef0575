"""A command in a process of its own, with a fault at a chosen write point.

Write points are named: "begin NAME" before the temporary file or folder of NAME is there, "before NAME" when
it is complete, "after NAME" when it has its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

FAULTS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "memory": errno.ENOMEM}


@dataclass(frozen=True)
class Fault:
    """What happens at the write point of this number: "kill", "full", "read-only" or nothing.

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


def run(arguments: list[str], fault: Fault, log: Path) -> None:
    """Runs `effkeras ARGUMENTS` in the folder of `log`; its output and write points are kept beside it."""
    os.setsid()
    os.chdir(log.parent)
    for channel, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(log.with_suffix(f".{name}"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), channel)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _arm(fault, log.with_suffix(".points"))
    from effkeras.cli import main

    code = 1
    try:
        code = main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # as the forked process shares the exit handlers of its parent


def _arm(fault: Fault, points: Path) -> None:
    from effkeras.support import files

    if fault.limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.limit, resource.RLIM_INFINITY))
    listed = os.open(points, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    passed = 0

    def point(name: str) -> None:
        nonlocal passed
        passed += 1
        with contextlib.suppress(OSError):  # of a limit
            os.write(listed, f"{name}\n".encode())
        if fault.point == passed and fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.point == passed or (fault.kind == "read-only" and name.startswith("begin")):
            code = FAULTS.get(fault.kind)
            if code:
                raise OSError(code, os.strerror(code))

    for name in ("put_file", "put_folder"):
        setattr(files, name, _put(getattr(files, name), point))
    for name in ("temporary_file", "temporary_folder"):
        setattr(files, name, _begun(getattr(files, name), point))


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
