"""Random search: the baseline that every other strategy has to beat (Li & Talwalkar, arXiv:1902.07638)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from effkeras.search.genomes import Genome, Space
from effkeras.search.strategies.strategy import Feedback, ProposedGenomes, register


@dataclass(frozen=True, slots=True)
class RandomOptions:
    """Random search has nothing to set."""


@register("random", "draws at random, the baseline", RandomOptions, takes_front=True)
class RandomSearch:
    """Draws genomes uniformly, none twice while the space lasts."""

    def __init__(self, space: Space, seed: int, options: RandomOptions) -> None:
        self._proposed = ProposedGenomes(space, np.random.default_rng(seed))

    def ask(self) -> Genome:
        """A genome that was not proposed before, if one is left."""
        return self._proposed.add(self._proposed.drawn())

    def tell(self, feedback: Feedback) -> None:
        """Learns nothing."""
