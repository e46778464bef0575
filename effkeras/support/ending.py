"""How a command ends: what a user can act on is one line on stderr and an exit code, whoever raised it.

The codes are 0 (done), 1 (a check failed), 2 (bad input, or the system refused: no space, no memory, no
permission), 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP. A reader that closes the pipe ends a
command quietly, with 0.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from effkeras.support.backend import import_problem
from effkeras.support.errors import EffkerasError, first_line, in_one_line

BAD_INPUT = 2
INTERRUPTED = 130
_BY_SIGNAL = 128
_AFTER = {
    True: "run the same command again to continue",
    False: "no unfinished file is left",
}
_STORES = {"optuna", "sqlalchemy", "sqlite3"}  # packages whose errors are of a search's store
_LONGEST = 300  # characters of another library's message


class Stopped(KeyboardInterrupt):
    """The system asked the process to end; what handles an interruption handles this too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def ended(command: Callable[[], int | None], *, resumes: bool = False) -> int:
    """Runs a command's body and returns its exit code; errors that no user can act on are raised.

    `resumes` is True for a command that continues interrupted work when it is run again.
    """
    try:
        _check_streams()
        with _stoppable():
            return _flushed(command)
    except BrokenPipeError:
        _drop_output()
        return 0
    except BaseException as error:
        said = _said(error, resumes=resumes)
        if said is None:
            raise
        line, code = said
        with contextlib.suppress(OSError, ValueError):
            print(in_one_line(line), file=sys.stderr)
        try:
            _flush()
        except (OSError, ValueError):
            _drop_output()
        return code


def _said(error: BaseException, *, resumes: bool) -> tuple[str, int] | None:
    """The line and the exit code for an exception; None for one that no user can act on."""
    if isinstance(error, Stopped):
        name = signal.Signals(error.number).name
        return f"stopped by {name}; {_AFTER[resumes]}", _BY_SIGNAL + error.number
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {_AFTER[resumes]}", INTERRUPTED
    problem = _problem(error)
    return (f"error: {problem}", BAD_INPUT) if problem else None


def _problem(error: BaseException) -> str:
    """What is wrong, where, and what to do next; "" for an exception that is a mistake of ours."""
    if isinstance(error, EffkerasError):
        return str(error)
    library = type(error).__module__.split(".")[0]
    message = first_line(error)[:_LONGEST]
    if library in _STORES:
        return f"the store of the search cannot be used: {message}; look at the disk, then run it again"
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return f"there is not enough memory ({message}); use smaller images, a smaller batch or model"
    if isinstance(error, OSError):
        return _problem_of_system(error, message)
    if isinstance(error, ImportError | ValueError):
        return import_problem(error)
    return ""


def _problem_of_system(error: OSError, message: str) -> str:
    """An operating system's error: the file, and what is wrong with it."""
    if error.filename is None and error.errno == errno.ENOENT and not _has_folder():
        return "the current folder is gone; change to another one"
    what = error.strerror or message
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    advice = {
        errno.ENOSPC: "; free some space, then run it again",
        errno.EROFS: "; give a place that can be written",
        errno.EACCES: "; give a place where you have permission",
        errno.EMFILE: "; raise the limit of open files (ulimit -n)",
    }
    return f"{where}{what}{advice.get(error.errno or 0, '')}"


def _has_folder() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _flushed(command: Callable[[], int | None]) -> int:
    """Runs the command; what it printed is then with the reader, or the error of that is raised."""
    try:
        code = command() or 0
    except SystemExit:  # of `--help`
        _flush()
        raise
    _flush()
    return code


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_output() -> None:
    """Sends what is still to be printed nowhere, so that the interpreter does not try it again at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _check_streams() -> None:
    """Opens closed standard streams nowhere, since files would take their numbers; stdout must be open."""
    closed = [channel for channel in (0, 1, 2) if not _is_open(channel)]
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if 1 in closed:
        raise EffkerasError("stdout is closed; send it to a file, or to /dev/null")


def _is_open(channel: int) -> bool:
    try:
        os.fstat(channel)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Stopped` meanwhile, so that temporary files are removed; the second kills.

    A signal that is ignored (by nohup) or handled already stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
