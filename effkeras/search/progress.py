"""Progress display of a search: trials finished and failed, the best so far, time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from effkeras.search.reporting.tables import duration
from effkeras.search.run import Status
from effkeras.search.trials.records import Result, Trial
from effkeras.support.console import note, progress


@dataclass(slots=True)
class Pace:
    """Estimates the time left from the trials that all workers finished in this run, not in earlier ones."""

    clock: Callable[[], float] = time.monotonic
    _start: float = field(init=False)
    _latest: float = field(init=False)
    _before: int = field(default=-1, init=False)
    _finished: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._start = self._latest = self.clock()

    def left(self, status: Status) -> float | None:
        """Seconds until all trials are finished; None until this run finished as many as run at once."""
        now = self.clock()
        if self._before < 0:
            self._before = self._finished = status.finished
        if status.finished > self._finished:
            self._finished, self._latest = status.finished, now
        made = self._finished - self._before
        if made < max(1, status.running):
            return None
        each = (self._latest - self._start) / made
        return max(0.0, each * (status.trials - self._finished) - (now - self._latest))


class Display:
    """A live display on stderr; when stderr is not a terminal, one line for each new best trial."""

    def __init__(self, cost: str) -> None:
        from rich.progress import TextColumn
        from rich.text import Text

        self._cost = cost
        self._pace = Pace()
        self._bar = progress(TextColumn("{task.fields[left]}"))
        self._line = Text()
        self._task: Any = None
        self._best: int | None = None
        self._live = _live(self._bar, self._line)
        self._is_live = self._live.console.is_terminal

    def __enter__(self) -> Display:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        if self._is_live:
            self._live.stop()

    def __call__(self, status: Status) -> None:
        """Shows the status of the search."""
        seconds = self._pace.left(status)
        left = "" if seconds is None else duration(seconds)
        if self._task is None:
            self._task = self._bar.add_task("trials", total=status.trials, left="")
        self._bar.update(self._task, completed=status.finished, left=left or "not known yet")
        self._line.plain = line(status, self._cost)
        self._note_best(status, left)

    def _note_best(self, status: Status, left: str) -> None:
        best = status.best
        if best is None or best.number == self._best:
            return
        self._best = best.number
        if not self._is_live:
            rest = f"; about {left} left" if left else ""
            note(f"{status.finished} of {status.trials} trials{rest}; {described(best, self._cost)}")


def line(status: Status, cost: str) -> str:
    """A status as one line of at most 80 columns."""
    counts = [f"{status.running} running"]
    counts += [f"{status.failed} failed"] if status.failed else []
    counts += [f"{status.pruned} pruned"] if status.pruned else []
    best = described(status.best, cost) if status.best else "none is finished yet"
    return f"{', '.join(counts)}; {best}"


def described(best: Trial, cost: str) -> str:
    """The best trial in a few words: reward, accuracy and cost."""
    result = best.result or Result()
    facts = []
    if result.accuracy is not None and result.accuracy != result.reward:
        facts.append(f"accuracy {result.accuracy:.4f}")
    if cost in result.costs:
        facts.append(f"{cost} {amount(result.costs[cost])}")
    return f"best {result.reward:.4f}" + (f" ({', '.join(facts)})" if facts else "")


def amount(value: float) -> str:
    """A cost with at most three significant digits: 912, 45.1k, 3.21M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _live(*lines: Any) -> Any:
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    return Live(Group(*lines), console=console, refresh_per_second=4, redirect_stdout=False)
