"""Histograms that grow with their data in bounded memory, and the ranges read from them."""

from __future__ import annotations

import math

import numpy as np

BINS = 4096
_FINEST = 2.0**-40  # of the largest value: bins below that would only resolve rounding
_CANDIDATES = 65


class Histogram:
    """Counts of values in bins whose width is a power of two.

    Edges are whole multiples of the width, which is the smallest that needs at most `BINS` bins. So when
    the range grows, pairs of bins merge exactly, and the order of the data does not matter.
    """

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf
        self.zeros = 0
        self._exponent = -(10**6)  # no values yet: any width will do
        self._first = 0
        self._counts = np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Counts all values of an array, which must be finite and not empty."""
        self._grow(float(values.min()), float(values.max()))
        self.zeros += int(np.count_nonzero(values == 0))
        bins = np.floor(np.ravel(values) * np.float64(2.0) ** -self._exponent).astype(np.int64)
        self._counts += np.bincount(bins - self._first, minlength=len(self._counts))

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2.0**self._exponent

    @property
    def centers(self) -> np.ndarray:
        """The middle of each bin, float64."""
        return (np.arange(len(self._counts)) + self._first + 0.5) * self.width

    @property
    def counts(self) -> np.ndarray:
        """How many values lie in each bin, int64."""
        return self._counts

    def _grow(self, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        exponent = max(self._exponent, _exponent(self.low, self.high))
        first, last = (math.floor(value * 2.0**-exponent) for value in (self.low, self.high))
        grown = np.zeros(last - first + 1, np.int64)
        if len(self._counts):
            old = np.arange(len(self._counts)) + self._first
            np.add.at(grown, (old >> (exponent - self._exponent)) - first, self._counts)
        self._exponent, self._first, self._counts = exponent, first, grown


def percentile_range(histogram: Histogram, share: float) -> tuple[float, float]:
    """The shortest range that holds 0 and at least `share` (0..1) of the values."""
    ends = np.cumsum(histogram.counts)
    starts = ends - histogram.counts
    last = np.searchsorted(ends, starts + math.ceil(share * ends[-1] - 1e-9))
    lengths = np.where(last < len(ends), last - np.arange(len(ends)), len(ends))
    first = int(np.argmin(lengths))
    half, centers = histogram.width / 2, histogram.centers
    low = max(centers[first] - half, histogram.low)
    high = min(centers[min(last[first], len(ends) - 1)] + half, histogram.high)
    return min(low, 0.0), max(high, 0.0)


def mse_range(histogram: Histogram, steps: int = 255) -> tuple[float, float]:
    """The range that holds 0 and loses least, as mean squared error, when divided into equal steps.

    A value inside is off by a twelfth of the squared step on average (zeros are exact); one outside by its
    distance from the range. Both ends are searched over fractions of the extremes.
    """
    fractions = np.linspace(0, 1, _CANDIDATES)
    lows = np.unique(min(histogram.low, 0.0) * fractions)
    highs = np.unique(max(histogram.high, 0.0) * fractions)
    below, count_below = _beyond(histogram, lows, side=-1)
    above, count_above = _beyond(histogram, highs, side=1)
    inside = histogram.counts.sum() - histogram.zeros - count_below[:, None] - count_above
    step = (highs - lows[:, None]) / steps
    loss = below[:, None] + above + np.maximum(inside, 0) * step**2 / 12
    row, column = np.unravel_index(np.argmin(loss), loss.shape)
    return float(lows[row]), float(highs[column])


def _beyond(histogram: Histogram, limits: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For each limit, the squared distance of the values beyond it, summed, and their number."""
    distance = np.maximum(side * (histogram.centers - limits[:, None]), 0)
    counts = histogram.counts
    return (distance**2 * counts).sum(axis=1), ((distance > 0) * counts).sum(axis=1)


def _exponent(low: float, high: float) -> int:
    """The smallest exponent of 2 that divides low..high into at most `BINS` bins."""
    width = max((high - low) / BINS, max(abs(low), abs(high)) * _FINEST, 1e-300)
    exponent = math.floor(math.log2(width))
    while math.floor(high * 2.0**-exponent) - math.floor(low * 2.0**-exponent) >= BINS:
        exponent += 1
    return exponent
