"""`python -m export.benchmarks.build`: build time of models and start time of commands.

effkeras and keras.applications build each model in turn in one process, so that other load on the machine
affects both alike. The result is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from effkeras.support import results
from effkeras.support.console import quiet, run_command, table, track
from effkeras.support.errors import EffkerasError
from effkeras.support.options import above_zero, parser

TWINS = {
    "efficientnet-b0": "EfficientNetB0",
    "efficientnet-b4": "EfficientNetB4",
    "efficientnetv2-s": "EfficientNetV2S",
    "mobilenet-v2": "MobileNetV2",
    "mobilenet-v3-large": "MobileNetV3Large",
    "nasnet-mobile": "NASNetMobile",
}
STARTS = {
    "import effkeras": ("-c", "import effkeras"),
    "effkeras --help": ("-m", "effkeras", "--help"),
    "effkeras list": ("-m", "effkeras", "list"),
}


@dataclass(frozen=True, slots=True)
class Building:
    """Build time of one model in seconds, one value for each repeat."""

    model: str
    twin: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Our median divided by theirs."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "build"."""
        return {
            "kind": "build",
            "model": self.model,
            "against": f"keras.applications.{self.twin}",
            "ours_s": _rounded(self.ours),
            "theirs_s": _rounded(self.theirs),
            "ratio": round(self.ratio, 3),
        }


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds that each repeat of a command took, and of a bare Python started in turn with it."""

    command: str
    seconds: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def own(self) -> float:
        """The command's median minus that of a bare Python."""
        return statistics.median(self.seconds) - statistics.median(self.bare)

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "start"."""
        return {
            "kind": "start",
            "command": self.command,
            "seconds": _rounded(self.seconds),
            "python_s": _rounded(self.bare),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def time_builds(models: Sequence[str], repeats: int) -> list[Building]:
    """Builds each model and its keras.applications twin in turn: one warm-up, then `repeats` timed builds."""
    with quiet():
        import keras

        import effkeras
    buildings = []
    for model in track(models, "building"):
        twin = getattr(keras.applications, TWINS[model])
        ways = partial(effkeras.build, model), partial(twin, weights=None)
        pairs = [(_timed(ways[0]), _timed(ways[1])) for _ in range(repeats + 1)]
        ours, theirs = zip(*pairs[1:], strict=True)
        buildings.append(Building(model, TWINS[model], ours, theirs))
    return buildings


def start_bench(repeats: int) -> list[Start]:
    """Starts each command and a bare Python in turn."""
    starts = []
    for command, arguments in track(STARTS.items(), "starting", total=len(STARTS)):
        pairs = [(_started(arguments), _started(("-c", ""))) for _ in range(repeats)]
        seconds, bare = zip(*pairs, strict=True)
        starts.append(Start(command, seconds, bare))
    return starts


def _started(arguments: Sequence[str]) -> float:
    command = [sys.executable, *arguments]
    return _timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def _timed(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    if chosen.repeats < 3:
        raise EffkerasError("fewer than 3 repeats say nothing; raise --repeats")
    starts = start_bench(chosen.repeats)
    buildings = time_builds(chosen.models or list(TWINS), chosen.repeats)
    table("seconds to build", ["model", "effkeras", "keras.applications", "ratio"], map(_cells, buildings))
    table("seconds to start", ["command", "median", "python alone"], map(_start_cells, starts))
    if chosen.out is not None:
        measured: list[Building | Start] = [*buildings, *starts]
        results.append(chosen.out, [results.stamped(one.to_row()) for one in measured])


def _cells(one: Building) -> list[str]:
    return [one.model, _median(one.ours), _median(one.theirs), f"{one.ratio:.2f}"]


def _start_cells(one: Start) -> list[str]:
    return [one.command, _median(one.seconds), _median(one.bare)]


def _median(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"


def _rounded(seconds: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in seconds]


def _parser() -> argparse.ArgumentParser:
    about = "Times building against keras.applications, and how fast commands start."
    options = parser("export build", about)
    options.add_argument("--models", nargs="+", choices=list(TWINS), help="default: all that have a twin")
    options.add_argument("--repeats", type=above_zero, default=5, help="at least 3 (default: 5)")
    options.add_argument("--out", type=Path, metavar="JSONL", help="add the rows to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
