"""Random search: the baseline that every other strategy has to beat (Li & Talwalkar, arXiv:1902.07638)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from effkeras.search.genomes import Genome, Space
from effkeras.search.strategies.protocol import Told
from effkeras.search.strategies.tried import Tried


@dataclass(frozen=True, slots=True)
class RandomOptions:
    """Random search has nothing to set."""


class RandomSearch:
    """Draws genomes uniformly, none twice while the space lasts."""

    def __init__(self, space: Space, seed: int, options: RandomOptions) -> None:
        self._tried = Tried(space, np.random.default_rng(seed))

    def ask(self) -> Genome:
        """A genome that was not proposed before, if one is left."""
        return self._tried.add(self._tried.drawn())

    def tell(self, told: Told) -> None:
        """Learns nothing."""
