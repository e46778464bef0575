"""The phases of a long command, and one estimate of the time that all of them together still take."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

# The field of a progress bar's task for the seconds it has left, where time decides its end; else None.
LEFT = "left"
_active: contextvars.ContextVar[Phases | None] = contextvars.ContextVar("phases", default=None)


@dataclass(slots=True)
class _Phase:
    """A phase; `work` is in any unit that all phases share, `began` in seconds, None before it began."""

    title: str
    work: float
    began: float | None = None


class Phases:
    """Phases in the order in which they run.

    Their work is an estimate, only as good as the seconds that it takes where it is done: the time left is
    scaled by the time that the work so far took.

    Args:
        planned: the title and the work of each phase, such as images through a network.
        clock: the time in seconds.
    """

    def __init__(
        self, planned: Iterable[tuple[str, float]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._phases = [_Phase(title, work) for title, work in planned]
        self._clock = clock
        self._at = -1
        self._share = 0.0
        self._source: object = None
        self._done = self._seconds = 0.0

    def begin(self, title: str) -> None:
        """Begins the next phase of this title; those before it that did not begin are left out.

        A phase that was not planned is added.
        """
        self._end()
        later = range(self._at + 1, len(self._phases))
        place = next((index for index in later if self._phases[index].title == title), None)
        if place is None:
            place = self._at + 1
            self._phases.insert(place, _Phase(title, 0.0))
        del self._phases[self._at + 1 : place]
        self._at += 1
        self._phases[self._at].began = self._clock()

    def skip(self, title: str) -> None:
        """Leaves out the next phase of this title, which an earlier run has done."""
        later = range(self._at + 1, len(self._phases))
        place = next((index for index in later if self._phases[index].title == title), None)
        if place is not None:
            del self._phases[place]

    def saw(self, source: object, share: float) -> None:
        """Takes in how far a progress bar is; only the first bar of a phase counts."""
        if self._source is None:
            self._source = source
        if self._source is source:
            self._share = min(max(share, 0.0), 1.0)

    @property
    def place(self) -> str:
        """Which phase it is of how many, such as "2/5"."""
        return f"{self._at + 1}/{len(self._phases)}"

    def left(self) -> float | None:
        """The seconds that all phases together still take; None before anything can be told."""
        if self._at < 0:
            return None
        now = self._phases[self._at]
        assert now.began is not None
        spent = self._clock() - now.began
        done, seconds = self._done + self._share * now.work, self._seconds + spent
        rest = (1 - self._share) * spent / self._share if self._share else None
        if done <= 0:
            return rest if self._at + 1 == len(self._phases) else None
        rate = seconds / done
        if rest is None:
            rest = rate * now.work
        return rest + rate * sum(one.work for one in self._phases[self._at + 1 :])

    def _end(self) -> None:
        """Counts the work of the phase so far; one that stopped early was less work than planned."""
        if self._at >= 0:
            now = self._phases[self._at]
            assert now.began is not None
            self._done += now.work * (self._share or 1.0)
            self._seconds += self._clock() - now.began
        self._share, self._source = 0.0, None


@contextlib.contextmanager
def phases(planned: Iterable[tuple[str, float]]) -> Iterator[Phases]:
    """Inside, progress bars show the phase and the time left over all phases; within other phases nothing."""
    running = Phases(planned)
    if _active.get() is not None:
        yield running
        return
    token = _active.set(running)
    try:
        yield running
    finally:
        _active.reset(token)


def active_phases() -> Phases | None:
    """The phases of the command that runs; None if it has none."""
    return _active.get()


def begin_phase(title: str) -> None:
    """Begins a phase of the command that runs, if it has phases."""
    running = _active.get()
    if running is not None:
        running.begin(title)


def skip_phase(title: str) -> None:
    """Leaves out a phase of the command that runs, if it has phases."""
    running = _active.get()
    if running is not None:
        running.skip(title)


def clock_text(seconds: float | None) -> str:
    """A time as text, such as 0:09:45; dashes for None."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
