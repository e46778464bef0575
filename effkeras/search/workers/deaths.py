"""When workers that die are not worth starting again."""

from __future__ import annotations

from dataclasses import dataclass

# Deaths in a row, for each worker, before any more trials are finished.
_MOST = 5


@dataclass(slots=True)
class Deaths:
    """Counts deaths in a row, of any of so many `workers`, with no more trials `finished` than before.

    The more workers, the more deaths: those of a machine that is lost die at once.
    """

    finished: int
    workers: int = 1
    count: int = 0

    def are_too_many(self, finished: int) -> bool:
        """Counts one more, after `finished` trials in all; whether another worker would only die too."""
        self.count = 0 if finished > self.finished else self.count + 1
        self.finished = finished
        return self.count >= _MOST * self.workers
