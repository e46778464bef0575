"""Strategies that learn nothing.

Random search is the baseline that every other strategy must beat (Li & Talwalkar, arXiv:1902.07638). Grid
search evaluates every network of a small space once (EfficientNet, arXiv:1905.11946, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from effkeras.search.genomes import Genome, Space, all_genomes
from effkeras.search.strategies.strategy import Feedback, ProposedGenomes, register


@dataclass(frozen=True, slots=True)
class RandomOptions:
    """Random search has no options."""


@register("random", "draws at random, the baseline", RandomOptions, takes_front=True)
class RandomSearch:
    """Draws genomes uniformly; repeats one only when all were proposed."""

    def __init__(self, space: Space, seed: int, options: RandomOptions) -> None:
        self._proposed = ProposedGenomes(space, np.random.default_rng(seed))

    def ask(self) -> Genome:
        """A genome that was not proposed before, if one is left."""
        return self._proposed.add(self._proposed.drawn())

    def tell(self, feedback: Feedback) -> None:
        """Learns nothing."""


@dataclass(frozen=True, slots=True)
class GridOptions:
    """Grid search has no options."""


@register("grid", "every network once, in order, for small spaces", GridOptions, takes_front=True)
class Grid:
    """Proposes all canonical genomes in ascending order, then repeats them, which ends the search.

    The seed has no effect. With fewer trials than networks, only first choices of the first genes are tried.
    """

    def __init__(self, space: Space, seed: int, options: GridOptions) -> None:
        self._genomes = _repeat_all(space)

    def ask(self) -> Genome:
        """The next genome in order."""
        return next(self._genomes)

    def tell(self, feedback: Feedback) -> None:
        """Learns nothing."""


def _repeat_all(space: Space) -> Iterator[Genome]:
    while True:
        yield from all_genomes(space)
