"""What launchers share: the command and the environment of a worker, and how it ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras.support.files import make_folder
from effkeras.training.strategies.cluster import LAUNCHER, VARIABLE, Cluster

_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Launch:
    """A training to start several times: the words after `effkeras`, and its run folder."""

    words: tuple[str, ...]
    out: Path

    @property
    def command(self) -> list[str]:
        """The command of each worker."""
        return [sys.executable, "-m", "effkeras", *self.words]

    def log(self, number: int) -> Path:
        """The log file of a worker, in a folder that exists."""
        return make_folder(self.out / "logs") / f"worker-{number}.log"


def variables(cluster: Cluster) -> dict[str, str]:
    """What a worker's environment has besides that of its machine."""
    path = os.pathsep.join(filter(None, sys.path))
    return {VARIABLE: cluster.variable(), "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}


def environment(cluster: Cluster, on_machine: int) -> dict[str, str]:
    """The whole environment of a worker on this machine, which shares its cores with `on_machine` others."""
    threads = str(max(1, (os.cpu_count() or 1) // on_machine))
    shares = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), threads) if on_machine > 1 else {}
    return shares | os.environ | variables(cluster) | {LAUNCHER: str(os.getpid())}


def free_ports(count: int) -> list[int]:
    """Free ports of this machine."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def how_it_ended(code: int) -> str:
    """An exit code of `subprocess` as text."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def last_line(text: str) -> str:
    """The last line that says something, without "error: "."""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next(filter(None, lines), "no message").removeprefix("error: ")[:_LONGEST]


def tail(path: Path, since: int = 0) -> str:
    """The text of a log from a position on, "" if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def local_names() -> Sequence[str]:
    """Names and addresses that surely mean this machine."""
    own = socket.gethostname()
    return ("localhost", "127.0.0.1", "::1", own, own.split(".")[0], socket.getfqdn())
