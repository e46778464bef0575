"""How well one figure orders candidates as another does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Values = Sequence[float] | np.ndarray


def kendall_tau(first: Values, second: Values) -> float:
    """Kendall's tau-b, -1..1, which allows for ties; NaN where one of the two is the same throughout.

    Of all pairs of candidates, those that both order alike less those that they order differently, over
    the geometric mean of the pairs that each orders at all (Kendall 1945).
    """
    one, other = (_orders(np.asarray(values, np.float64)) for values in (first, second))
    return _ratio(float((one * other).sum()), float(np.sqrt((one**2).sum() * (other**2).sum())))


def spearman(first: Values, second: Values) -> float:
    """The correlation of the ranks, -1..1, ties sharing their mean rank; NaN where one does not vary."""
    one, other = (_centred(np.asarray(values, np.float64)) for values in (first, second))
    return _ratio(float((one * other).sum()), float(np.sqrt((one**2).sum() * (other**2).sum())))


@dataclass(frozen=True, slots=True)
class TableCheck:
    """Whole networks, as a table predicts them and as they were measured, in milliseconds."""

    names: tuple[str, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def error(self) -> float:
        """The mean of |predicted / measured - 1|."""
        return float(np.mean(np.abs(self._ratios() - 1)))

    @property
    def bias(self) -> float:
        """The median of predicted / measured: what borders cost; it does not change an order."""
        return float(np.median(self._ratios()))

    @property
    def kendall(self) -> float:
        """Kendall's tau between the two, 1 for the same order."""
        return kendall_tau(self.predicted, self.measured)

    @property
    def spearman(self) -> float:
        """Spearman's rank correlation between the two."""
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
