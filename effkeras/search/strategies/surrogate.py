"""What rewards to expect of genomes that were not tried, learned from those that were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effkeras.search.genomes import Genome

# PNASNet's ensemble: five predictors, each of which sees four fifths of the results (arXiv:1712.00559,
# section 4.2).
_MEMBERS = 5
# How alike genomes are that differ in one gene; by this factor less with each gene more.
_LIKENESS = 0.8
# Noise of rewards, as a share of their variance: it keeps the equations solvable as well.
_NOISE = 0.01


class Surrogate:
    """The mean of a few kernel ridge regressions on genomes.

    The kernel is `_LIKENESS` to the power of the number of genes that differ, a product over genes, so all
    interactions are learned and the nearest ones first. It is exact to fit, and with some hundred results
    in the way of no training: PNASNet's recurrent and dense predictors need many more steps for the same
    ranking.
    """

    def __init__(
        self, genomes: Sequence[Genome], rewards: Sequence[float], random: np.random.Generator
    ) -> None:
        self._genomes = np.array(genomes)
        values = np.array(rewards)
        self._mean, self._spread = values.mean(), values.std() or 1.0
        self._weights = np.mean(
            [
                self._fitted((values - self._mean) / self._spread, part)
                for part in _parts(len(values), random)
            ],
            axis=0,
        )

    def predict(self, genomes: Sequence[Genome]) -> np.ndarray:
        """The rewards to expect, (genomes,)."""
        return self._mean + self._spread * (_alike(np.array(genomes), self._genomes) @ self._weights)

    def _fitted(self, values: np.ndarray, part: np.ndarray) -> np.ndarray:
        """The weights of all results in the regression on a part of them; 0 for the others."""
        kernel = _alike(self._genomes[part], self._genomes[part])
        weights = np.zeros(len(values))
        weights[part] = np.linalg.solve(kernel + _NOISE * np.eye(len(part)), values[part])
        return weights


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return _LIKENESS ** (one[:, None] != other[None]).sum(axis=-1)


def _parts(count: int, random: np.random.Generator) -> list[np.ndarray]:
    """The results that each member sees: all but every fifth, in a random order."""
    if count < 2 * _MEMBERS:
        return [np.arange(count)]
    order = random.permutation(count)
    return [np.delete(order, np.s_[member::_MEMBERS]) for member in range(_MEMBERS)]
