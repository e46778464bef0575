"""Rank correlations: how well two values agree on the order of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Values = Sequence[float] | np.ndarray


def kendall_tau(first: Values, second: Values) -> float:
    """Kendall's tau-b, -1..1, which handles ties; NaN when one of the two is constant.

    The number of concordant minus discordant pairs of candidates, divided by the geometric mean of the
    numbers of untied pairs in each (Kendall 1945).
    """
    one, other = (_orders(np.asarray(values, np.float64)) for values in (first, second))
    return _ratio(float((one * other).sum()), float(np.sqrt((one**2).sum() * (other**2).sum())))


def spearman(first: Values, second: Values) -> float:
    """Spearman's rank correlation, -1..1; ties get their mean rank; NaN when one of the two is constant."""
    one, other = (_centred(np.asarray(values, np.float64)) for values in (first, second))
    return _ratio(float((one * other).sum()), float(np.sqrt((one**2).sum() * (other**2).sum())))


@dataclass(frozen=True, slots=True)
class TableCheck:
    """Latencies of whole networks in milliseconds, predicted by a table and measured."""

    names: tuple[str, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def error(self) -> float:
        """The mean of |predicted / measured - 1|."""
        return float(np.mean(np.abs(self._ratios() - 1)))

    @property
    def bias(self) -> float:
        """The median of predicted / measured; a constant bias does not change the order of networks."""
        return float(np.median(self._ratios()))

    @property
    def kendall(self) -> float:
        """Kendall's tau between predicted and measured, 1 for the same order."""
        return kendall_tau(self.predicted, self.measured)

    @property
    def spearman(self) -> float:
        """Spearman's rank correlation between predicted and measured."""
        return spearman(self.predicted, self.measured)

    def _ratios(self) -> np.ndarray:
        return np.array(self.predicted) / np.array(self.measured)


def _orders(values: np.ndarray) -> np.ndarray:
    """For each pair of candidates -1, 0 or 1: (n * (n - 1) / 2,)."""
    rows, columns = np.triu_indices(len(values), 1)
    return np.sign(values[rows] - values[columns])


def _centred(values: np.ndarray) -> np.ndarray:
    below = (values[None, :] < values[:, None]).sum(axis=1)
    alike = (values[None, :] == values[:, None]).sum(axis=1)
    ranks = below + (alike - 1) / 2
    return ranks - ranks.mean()


def _ratio(shared: float, most: float) -> float:
    return shared / most if most else float("nan")
