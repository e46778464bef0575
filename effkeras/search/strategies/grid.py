"""Grid search: every network of a small space once, as in EfficientNet (arXiv:1905.11946, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from effkeras.search.genomes import Genome, Space, all_genomes
from effkeras.search.strategies.strategy import Feedback, register


@dataclass(frozen=True, slots=True)
class GridOptions:
    """Grid search has nothing to set."""


@register("grid", "every network once, in order, for small spaces", GridOptions, takes_front=True)
class Grid:
    """Proposes all canonical genomes in ascending order; then again, which ends a search like any repeats.

    The seed changes nothing. Fewer trials than networks try the first choices of the first genes only.
    """

    def __init__(self, space: Space, seed: int, options: GridOptions) -> None:
        self._genomes = _again_and_again(space)

    def ask(self) -> Genome:
        """The next one."""
        return next(self._genomes)

    def tell(self, feedback: Feedback) -> None:
        """Learns nothing."""


def _again_and_again(space: Space) -> Iterator[Genome]:
    while True:
        yield from all_genomes(space)
