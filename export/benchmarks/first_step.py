"""`python -m export.benchmarks.first_step`: time from the command `effkeras train` to its first step's end.

It holds the import of TensorFlow, reading the images, building the model, tracing the step, and the step.
With --against, another checkout of effkeras takes turns with this one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras.data.digits import DigitsOptions, write_digits
from effkeras.support import results
from effkeras.support.console import run_command, table, track
from effkeras.support.errors import EffkerasError
from effkeras.support.options import above_zero, parser

MODEL, BATCH, IMAGES = "efficientdet-lite0", 8, 200
WORKER = Path(__file__).with_name("first_step_worker.py")
HERE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Started:
    """Seconds from the command to the end of its first step: of the clock, and of all threads' CPU time."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class FirstStep:
    """Each start of a model's training on a data set; `theirs` are those of the checkout `against`."""

    model: str
    data: str
    ours: tuple[Started, ...]
    against: str = ""
    theirs: tuple[Started, ...] = ()

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "first step"."""
        row = {"kind": "first step", "model": self.model, "batch": BATCH, "data": self.data}
        row |= {"ours_wall_s": _column(self.ours, "wall_s"), "ours_cpu_s": _column(self.ours, "cpu_s")}
        if self.theirs:
            theirs = {"theirs_wall_s": _column(self.theirs, "wall_s")}
            row |= {"against": self.against, **theirs, "theirs_cpu_s": _column(self.theirs, "cpu_s")}
        return row


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def started(checkout: Path, model: str, data: Path) -> Started:
    """Starts a training by the effkeras of a checkout, and ends it after its first step.

    Raises EffkerasError if it fails before.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = ["--data", str(data), "--skip-bad", "--steps", "10", "--batch", str(BATCH)]
        words = [model, *given, "--out", str(Path(folder, "run"))]
        done = subprocess.run(
            [sys.executable, str(WORKER), str(time.time()), *words],
            env={**os.environ, "PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode or not done.stdout.startswith("{"):
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise EffkerasError(f"the training by {checkout} did not reach its first step: {last}")
    return Started(**json.loads(done.stdout))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        data = chosen.data or _drawn(Path(folder))
        checkouts = [HERE, *([chosen.against.resolve()] if chosen.against else [])]
        turns = [checkout for _ in range(chosen.repeats) for checkout in checkouts]
        made = [(turn, started(turn, chosen.model, data)) for turn in track(turns, "starting")]
    ours = tuple(one for turn, one in made if turn == HERE)
    theirs = tuple(one for turn, one in made if turn != HERE)
    name = chosen.data.name if chosen.data else f"digits, {IMAGES} images"
    measured = FirstStep(chosen.model, name, ours, _commit(checkouts[-1]), theirs)
    rows = [["ours", *_cells(ours)], *([[measured.against, *_cells(theirs)]] if theirs else [])]
    table(f"Seconds to the first step of {chosen.model}: median (range)", ["", "wall", "CPU"], rows)
    if chosen.out:
        results.append(chosen.out, [results.stamped(measured.to_row())])


def _drawn(folder: Path) -> Path:
    write_digits(folder / "digits", DigitsOptions(train=IMAGES, val=8, test=8))
    return folder / "digits"


def _commit(checkout: Path) -> str:
    words = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def _column(starts: Sequence[Started], name: str) -> list[float]:
    return [round(getattr(one, name), 2) for one in starts]


def _cells(starts: Sequence[Started]) -> list[str]:
    columns = [_column(starts, name) for name in ("wall_s", "cpu_s")]
    return [f"{statistics.median(one):.1f} ({min(one):.1f}-{max(one):.1f})" for one in columns]


def _parser() -> argparse.ArgumentParser:
    options = parser("first_step", "Measures the time from `effkeras train` to the end of its first step.")
    options.prog = "python -m export.benchmarks.first_step"
    options.add_argument("--model", default=MODEL, help=f"a zoo name (default: {MODEL})")
    options.add_argument("--data", type=Path, metavar="DIR", help="images with boxes (default: drawn digits)")
    options.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout to compare with")
    options.add_argument("--repeats", type=above_zero, default=3, help="starts of each (default: 3)")
    options.add_argument("--out", type=Path, metavar="JSONL", help="the file to append the measurement to")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
