"""`python -m effkeras.search.benchmarks.worker_bench`: throughput of two workers, and overhead per trial.

The same random search, with the same candidates, runs in turns with one and with two worker processes of one
thread each. The times of trials come from the store, so the start of processes does not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.search.trials.store import FILE, load_study
from effkeras.support import results
from effkeras.support.console import note, run_command, table
from effkeras.support.errors import EffkerasError
from effkeras.support.options import above_zero, add_data, parser

if TYPE_CHECKING:
    import optuna

WORKERS = (1, 2)
COLUMNS = ("workers", "trials an hour", "s a training", "ms beside it")
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True, slots=True)
class Trial:
    """When a trial began and finished, and the duration of its evaluation; in seconds."""

    begun: float
    finished: float
    evaluation: float


@dataclass(frozen=True, slots=True)
class Pace:
    """The trials of a search with `workers` workers."""

    workers: int
    trials: tuple[Trial, ...]

    @property
    def span(self) -> float:
        """Seconds from the start of the first trial to the end of the last."""
        return max(one.finished for one in self.trials) - min(one.begun for one in self.trials)

    @property
    def per_hour(self) -> float:
        """Trials per hour."""
        return 3600 * len(self.trials) / self.span

    @property
    def evaluation(self) -> float:
        """The mean duration of an evaluation in seconds."""
        return statistics.fmean(one.evaluation for one in self.trials)

    @property
    def beside(self) -> float:
        """The overhead: milliseconds of worker time per trial outside evaluations.

        With several workers it includes the time that the others wait for the last trial.
        """
        return 1000 * (self.workers * self.span / len(self.trials) - self.evaluation)

    def to_row(self) -> results.Row:
        """The measurement as a plain record, kind "search-pace"."""
        return {
            "kind": "search-pace",
            "workers": self.workers,
            "trials": len(self.trials),
            "trials_per_hour": round(self.per_hour, 1),
            "evaluation_s": round(self.evaluation, 3),
            "beside_ms": round(self.beside, 1),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """The search that both pools run: a space, data, and the numbers of trials and epochs."""

    space: str
    data: Path
    trials: int
    epochs: int


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def pace_of(folder: Path, workers: int) -> Pace:
    """Reads the times of a search's trials from its store; raises EffkerasError if none is finished."""
    study = load_study(folder / FILE)
    timed = tuple(_trial(one) for one in study.get_trials(deepcopy=False) if "result" in one.user_attrs)
    if not timed:
        raise EffkerasError(f"{folder} has no finished trial")
    return Pace(workers, timed)


def paces(contest: Comparison, rounds: int) -> Iterator[Pace]:
    """Runs the search with each pool in turns, every time from the start."""
    for number in range(rounds):
        for workers in WORKERS:
            note(f"round {number + 1} of {rounds}: {contest.trials} trials, {_pool(workers)}")
            with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
                _search(contest, workers, Path(folder, "search"))
                yield pace_of(Path(folder, "search"), workers)


def _trial(trial: optuna.trial.FrozenTrial) -> Trial:
    start, end = trial.datetime_start, trial.datetime_complete
    assert start is not None
    assert end is not None  # every finished trial has both
    return Trial(start.timestamp(), end.timestamp(), float(trial.user_attrs["result"]["seconds"]))


def _search(contest: Comparison, workers: int, out: Path) -> None:
    options = {
        "--data": contest.data,
        "--trials": contest.trials,
        "--epochs": contest.epochs,
        "--workers": workers,
        "--strategy": "random",
        "--out": out,
    }
    words = [str(word) for pair in options.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-m", "effkeras", "search", contest.space, *words],
        env=os.environ | dict.fromkeys(_THREADS, "1"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise EffkerasError(f"the search ended with exit code {done.returncode}: {last}")


def _run(argv: Sequence[str] | None) -> None:
    chosen = _options(argv)
    found = list(paces(Comparison(chosen.space, chosen.data, chosen.trials, chosen.epochs), chosen.rounds))
    results.append(chosen.out, [results.stamped(one.to_row()) for one in found])
    table(f"{chosen.space}: {chosen.trials} trials, a thread each", COLUMNS, list(map(_cells, found)))
    alone, together = (
        statistics.median(one.per_hour for one in found if one.workers == workers) for workers in WORKERS
    )
    print(f"two workers make {together / alone:.2f} times the trials of one (medians)")


def _cells(pace: Pace) -> list[str]:
    return [str(pace.workers), f"{pace.per_hour:.0f}", f"{pace.evaluation:.2f}", f"{pace.beside:.0f}"]


def _pool(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser("search-worker-bench", "Times the same search with one and with two workers.")
    options.add_argument("--space", default="digits-blocks", help="default: digits-blocks")
    add_data(options)
    options.add_argument("--trials", type=above_zero, default=12, help="of each search (default: 12)")
    options.add_argument("--epochs", type=above_zero, default=1, help="of each training (default: 1)")
    options.add_argument("--rounds", type=above_zero, default=2, help="of both in turns (default: 2)")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    return options.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
