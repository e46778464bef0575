"""Regularized evolution (Real et al., "Regularized Evolution for Image Classifier Architecture Search",
arXiv:1802.01548): the best of a few randomly drawn members has a child, and the oldest member is removed.
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
    """`population` is the number of members; the best of `tournament` drawn members has the next child.

    The paper's 100 and 25 are for 20,000 networks; the defaults suit a few hundred. Raises EffkerasError
    unless 1 <= tournament <= population.
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
    """Mutates the best of a few random members of a population of the latest results.

    Age counts from the result, not from the proposal, as in the paper's asynchronous search. Failed
    candidates never become members. A child that was proposed before is replaced by another mutation.
    """

    def __init__(self, space: Space, seed: int, options: EvolutionOptions) -> None:
        self._random = np.random.default_rng(seed)
        self._options = options
        self._proposed = ProposedGenomes(space, self._random)
        self._members: deque[tuple[float, Genome]] = deque(maxlen=options.population)
        self._asked = 0

    def ask(self) -> Genome:
        """Random genomes for the first population, then children."""
        self._asked += 1
        is_first = self._asked <= self._options.population or not self._members
        return self._proposed.add(
            self._proposed.drawn() if is_first else self._proposed.mutated(self._parent())
        )

    def tell(self, feedback: Feedback) -> None:
        """Adds the youngest member; removes the oldest when the population is full."""
        if feedback.reward is not None:
            self._members.append((feedback.reward, feedback.genome))

    def _parent(self) -> Genome:
        size = min(self._options.tournament, len(self._members))
        drawn = self._random.choice(len(self._members), size=size, replace=False)
        return max((self._members[int(index)] for index in drawn), key=lambda member: member[0])[1]
