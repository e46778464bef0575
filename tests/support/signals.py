"""Signals of the processes that tests start."""

from __future__ import annotations

import signal


def heed_signals() -> None:
    """For `preexec_fn`: a background job of a shell ignores these signals, and so would its children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
