"""Regularised evolution (Real et al., "Regularized Evolution for Image Classifier Architecture Search",
arXiv:1802.01548): of a few members drawn at random the best has a child, and the oldest member dies.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from effkeras.search.genomes import Genome, Space
from effkeras.search.strategies.strategy import Feedback, ProposedGenomes, register
from effkeras.support.errors import EffkerasError


@dataclass(frozen=True, slots=True)
class EvolutionOptions:
    """`population` members are kept, the best of `tournament` of them has the next child.

    The paper's 100 and 25 are for 20,000 networks; the defaults are for some hundred. Raises
    EffkerasError unless 1 <= tournament <= population.
    """

    population: int = 20
    tournament: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.tournament <= self.population:
            raise EffkerasError(
                f"evolution: tournament must be from 1 to the population of {self.population}, "
                f"not {self.tournament}"
            )


@register("evolution", "regularised evolution (AmoebaNet)", EvolutionOptions)
class Evolution:
    """Mutates the best of a random few, in a population of the latest results.

    Age counts from the result, not the proposal, as in the paper's asynchronous search. Candidates that
    failed never join. A child that was proposed before is mutated anew.
    """

    def __init__(self, space: Space, seed: int, options: EvolutionOptions) -> None:
        self._random = np.random.default_rng(seed)
        self._options = options
        self._proposed = ProposedGenomes(space, self._random)
        self._members: deque[tuple[float, Genome]] = deque(maxlen=options.population)
        self._asked = 0

    def ask(self) -> Genome:
        """A random genome for every place of the first population, then children."""
        self._asked += 1
        is_first = self._asked <= self._options.population or not self._members
        return self._proposed.add(
            self._proposed.drawn() if is_first else self._proposed.mutated(self._parent())
        )

    def tell(self, feedback: Feedback) -> None:
        """A new youngest member; the oldest goes when there are too many."""
        if feedback.reward is not None:
            self._members.append((feedback.reward, feedback.genome))

    def _parent(self) -> Genome:
        size = min(self._options.tournament, len(self._members))
        drawn = self._random.choice(len(self._members), size=size, replace=False)
        return max((self._members[int(index)] for index in drawn), key=lambda member: member[0])[1]
