"""Keeps the output of native libraries off the terminal.

Converters and interpreters write to the process's file descriptors from C++, which Python's own
redirection does not reach.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from effkeras.support.errors import EffkerasError

_CHANNELS = (1, 2)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Captures everything that Python or native code writes to stdout and stderr.

    When the body fails with anything but an EffkerasError, the captured text goes to stderr, because it then
    explains the failure. The redirection holds for all threads of the process.
    """
    with tempfile.TemporaryFile() as held:
        try:
            with _redirected(held):
                yield
        except EffkerasError:
            raise
        except Exception:
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise


@contextlib.contextmanager
def _redirected(target: IO[bytes]) -> Iterator[None]:
    _flush()
    saved = [os.dup(channel) for channel in _CHANNELS]
    try:
        for channel in _CHANNELS:
            os.dup2(target.fileno(), channel)
        # In notebooks and under pytest, Python's streams do not write to these descriptors.
        text = os.fdopen(os.dup(target.fileno()), "w", encoding="utf-8")
        with text, contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield
    finally:
        for channel, original in zip(_CHANNELS, saved, strict=True):
            os.dup2(original, channel)
            os.close(original)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError):
            stream.flush()
