"""When workers that die are not worth starting again."""

from __future__ import annotations

from dataclasses import dataclass

# Workers in a row that may end before any more trials are finished.
_MOST = 5


@dataclass(slots=True)
class Deaths:
    """Counts workers in a row that died with no more trials `finished` than before."""

    finished: int
    count: int = 0

    def are_too_many(self, finished: int) -> bool:
        """Counts one more, after `finished` trials in all; whether another worker would only die too."""
        self.count = 0 if finished > self.finished else self.count + 1
        self.finished = finished
        return self.count >= _MOST
