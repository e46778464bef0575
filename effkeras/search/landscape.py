"""A landscape in closed form: what a search strategy is worth, without training anything.

Every gene adds a number of its own, and every two neighbours add one for the pair, as in a network whose
layers are not independent. All numbers are normally distributed under a seed. Dynamic programming over
the pairs finds the exact optimum, so that the regret of a search is known.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from effkeras.errors import EffkerasError
from effkeras.search.genomes import Gene, Genome

# A stream of random numbers of its own: strategies are seeded with the same small numbers.
_STREAM = 0x1A9D


class Landscape:
    """A space of `genes` x `ops` genomes, each with a value from 0 (the worst) to 1 (the best).

    `pairs` is the standard deviation of a pair's number; that of a gene's own is 1. Raises EffkerasError
    without two ops to choose from.
    """

    def __init__(self, seed: int, genes: int = 7, ops: int = 6, pairs: float = 0.5) -> None:
        if genes < 1 or ops < 2:
            raise EffkerasError(f"a landscape needs a gene and two ops, not {genes} and {ops}")
        random = np.random.default_rng([_STREAM, seed])
        self.genes = tuple(Gene(f"layer{index}", tuple(range(ops))) for index in range(genes))
        self._own = random.normal(size=(genes, ops))
        self._pair = pairs * random.normal(size=(genes - 1, ops, ops))
        self.best = self._extreme(np.argmax)
        self._low, self._high = self._raw(self._extreme(np.argmin)), self._raw(self.best)

    def canonical(self, genome: Genome) -> Genome:
        """The genome: no two describe the same."""
        return genome

    def problem(self, genome: Genome) -> str:
        """ "": all genomes are valid."""
        return ""

    def value(self, genome: Genome) -> float:
        """How good a genome is, 0 to 1."""
        return (self._raw(genome) - self._low) / (self._high - self._low)

    def _raw(self, genome: Genome) -> float:
        own = sum(row[op] for row, op in zip(self._own, genome, strict=True))
        pairs = zip(self._pair, genome[:-1], genome[1:], strict=True)
        return float(own + sum(table[left, right] for table, left, right in pairs))

    def _extreme(self, choose: Callable[..., np.intp]) -> Genome:
        """The genome whose sum is the largest (argmax) or smallest (argmin): Viterbi's algorithm."""
        reach, steps = self._own[0], []
        for own, pair in zip(self._own[1:], self._pair, strict=True):
            sums = reach[:, None] + pair + own
            steps.append([int(choose(column)) for column in sums.T])
            reach = np.array([column[step] for column, step in zip(sums.T, steps[-1], strict=True)])
        genome = [int(choose(reach))]
        for step in reversed(steps):
            genome.append(step[genome[-1]])
        return tuple(reversed(genome))
