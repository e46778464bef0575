"""k-means of numbers: few values that stand for many, with the least squared error that is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Start = Literal["linear", "density", "kmeans++"]
Array = np.ndarray

_ROUNDS = 300
_LEAST_GAIN = 1e-9
_SEED = 0


def centroids_of(values: Array, count: int, start: Start = "linear") -> Array:
    """At most `count` values that stand for a kernel's (Lloyd 1982), sorted, in the kernel's type.

    Exact zeros keep a centroid of their own, which nothing else gets, and what is negative or positive stays
    so: what was pruned stays pruned, and no more (as sparsity-preserving clustering in
    tensorflow-model-optimization). Where there are no more different values than `count`, these are it.

    Args:
        values: any shape.
        count: at least 2; at least 3 where there are zeros beside values of both signs.
        start: the first centroids are evenly spaced ("linear"), quantiles ("density"), or drawn by k-means++
            (Arthur & Vassilvitskii 2007), always the same ones.
    """
    different = np.unique(values)
    if len(different) <= count:
        return different
    values = values.ravel()
    if (different != 0).all():
        return _best(values, count, start)
    negative, positive = values[values < 0], values[values > 0]
    below = _share(len(negative), len(positive), count - 1)
    ends = _best(negative, below, start), _best(positive, count - 1 - below, start)
    return np.concatenate([ends[0], np.zeros(1, values.dtype), ends[1]])


def smallest_count(values: Array) -> int:
    """How many centroids `centroids_of` needs at least for these values."""
    kinds = (values < 0).any(), (values == 0).any(), (values > 0).any()
    return 3 if all(kinds) else 2


def nearest(values: Array, centroids: Array) -> Array:
    """The index of the nearest centroid for each value, int32; zero goes to zero only.

    Args:
        values: any shape.
        centroids: sorted. Where zero is among them, values of other signs go to others.
    """
    index = np.searchsorted(_borders(centroids), values).astype(np.int32)
    (zero,) = np.nonzero(centroids == 0)
    if zero.size:
        place, last = int(zero[0]), len(centroids) - 1
        index = np.where(values < 0, np.minimum(index, max(place - 1, 0)), index)
        index = np.where(values > 0, np.maximum(index, min(place + 1, last)), index)
        index = np.where(values == 0, place, index)
    return index.astype(np.int32)


def _share(first: int, second: int, count: int) -> int:
    """How many of `count` go to the first of two groups: by size, but at least one to each."""
    if not first or not second:
        return count if first else 0
    return min(max(round(count * first / (first + second)), 1), count - 1)


def _best(values: Array, count: int, start: Start) -> Array:
    """k-means of numbers: Lloyd's rounds, and as long as it helps one cluster split and two others joined.

    Without that, Lloyd's local minimum can have several times the least error where tails are heavy.
    """
    if not count or not len(values):
        return np.empty(0, values.dtype)
    line = _Line.of(values)
    ends = line.settled(_STARTS[start](line.ordered, count))
    while (better := line.improved(ends, count)) is not None:
        ends = better
    return np.unique(line.means(ends).astype(values.dtype))


@dataclass(frozen=True, eq=False, slots=True)
class _Line:
    """Numbers in ascending order. A cluster is a range of them, clusters the places where ranges end.

    Sums over ranges are differences of `sums` and `squares`, which start with a 0.
    """

    ordered: Array
    sums: Array
    squares: Array

    @classmethod
    def of(cls, values: Array) -> _Line:
        ordered = np.sort(values).astype(np.float64)
        return cls(ordered, *(np.concatenate([[0], np.cumsum(one)]) for one in (ordered, ordered**2)))

    def settled(self, centroids: Array) -> Array:
        """The clusters, none of them empty, that Lloyd's rounds lead to."""
        ends = self._around(centroids)
        for _ in range(_ROUNDS):
            before, ends = ends, self._around(self.means(ends))
            if np.array_equal(before, ends):
                break
        return ends

    def means(self, ends: Array) -> Array:
        """The mean of each cluster; what running sums lose never takes it out of the cluster's range."""
        means = np.diff(self.sums[ends]) / np.diff(ends)
        return np.clip(means, self.ordered[ends[:-1]], self.ordered[ends[1:] - 1])

    def cost(self, ends: Array) -> float:
        """The squared error of all clusters."""
        return float(self._errors(ends[:-1], ends[1:]).sum())

    def improved(self, ends: Array, count: int) -> Array | None:
        """Better clusters after one was split in two; None when no such step helps.

        Where there are `count` clusters already, two neighbours are joined first, those that lose least if
        that helps.
        """
        wanted = self.cost(ends) - _LEAST_GAIN * self.squares[-1]
        joined = [ends]
        if len(ends) - 1 == count:
            joined = [np.delete(ends, 1 + place) for place in np.argsort(self._losses(ends))]
        settled = (self.settled(self._split(one)) for one in joined)
        return next((one for one in settled if self.cost(one) < wanted), None)

    def _split(self, ends: Array) -> Array:
        """Centroids after the cluster that gains most by it is split at its mean."""
        starts, stops = ends[:-1], ends[1:]
        middles = np.searchsorted(self.ordered, self.means(ends))
        halves = self._errors(starts, middles) + self._errors(middles, stops)
        widest = np.argmax(self._errors(starts, stops) - halves)
        return self.means(np.unique(np.append(ends, middles[widest])))

    def _losses(self, ends: Array) -> Array:
        """What the squared error grows by when a cluster is joined with the next."""
        starts, middles, stops = ends[:-2], ends[1:-1], ends[2:]
        apart = self._errors(starts, middles) + self._errors(middles, stops)
        return self._errors(starts, stops) - apart

    def _errors(self, starts: Array, stops: Array) -> Array:
        """The squared error of each range around its mean."""
        sums = self.sums[stops] - self.sums[starts]
        return self.squares[stops] - self.squares[starts] - sums**2 / np.maximum(stops - starts, 1)

    def _around(self, centroids: Array) -> Array:
        """The ranges of the numbers that are nearest to each centroid, without empty ones."""
        inner = np.searchsorted(self.ordered, _borders(centroids))
        return np.unique(np.concatenate([[0], inner, [len(self.ordered)]]))


def _borders(centroids: Array) -> Array:
    wide = centroids.astype(np.float64)
    return (wide[1:] + wide[:-1]) / 2


def _linear(ordered: Array, count: int) -> Array:
    return np.linspace(ordered[0], ordered[-1], count)


def _density(ordered: Array, count: int) -> Array:
    return np.quantile(ordered, (np.arange(count) + 0.5) / count)


def _plus_plus(ordered: Array, count: int) -> Array:
    random = np.random.default_rng(_SEED)
    chosen = [ordered[random.integers(len(ordered))]]
    distance = (ordered - chosen[0]) ** 2
    while len(chosen) < count and distance.any():
        chosen.append(random.choice(ordered, p=distance / distance.sum()))
        distance = np.minimum(distance, (ordered - chosen[-1]) ** 2)
    return np.sort(np.array(chosen))


_STARTS: dict[Start, Callable[[Array, int], Array]] = {
    "linear": _linear,
    "density": _density,
    "kmeans++": _plus_plus,
}
