"""What every crew of workers is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Protocol

from effkeras.search.job import SearchJob
from effkeras.search.store.ledger import Ledger, Limits


@dataclass(frozen=True, slots=True)
class Post:
    """What a crew works for.

    `keep` are open files that processes of this machine inherit: the search's lock is let go when the last
    of them has ended.
    """

    job: SearchJob
    limits: Limits
    ledger: Ledger
    keep: tuple[IO[str], ...] = ()


class Crew(Protocol):
    """The workers of a search, wherever they are."""

    def start(self, post: Post) -> None:
        """Sets the workers to work."""
        ...

    def step(self) -> bool:
        """Sees to the workers for a moment; False when all work is done."""
        ...

    def close(self) -> None:
        """Ends them at once; what they were evaluating is run again next time."""
        ...
