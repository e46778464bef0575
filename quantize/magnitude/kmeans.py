"""One-dimensional k-means: Lloyd's algorithm with splits and merges.

The exact 1-D k-means of the library kmeans1d 0.5.0 is no substitute. For 1,280,000 weights (the dense kernel
of B0) and 16 clusters it takes 7.4 s and 560 MB; this module takes 0.16 s and 120 MB. Its squared error is at
most 0.4 % lower (5 % with 64 clusters). It supports neither the start that a recipe names nor a centroid that
stays at zero for pruned weights.
"""

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
    """At most `count` centroids of a kernel's values (Lloyd 1982), sorted, in the kernel's type.

    Exact zeros keep a centroid of their own, which no other value gets, and values keep their sign: pruned
    weights stay pruned, and no others become zero (as sparsity-preserving clustering in
    tensorflow-model-optimization). If there are at most `count` distinct values, they are the centroids.

    Args:
        values: any shape.
        count: at least 2; at least 3 if there are zeros and values of both signs.
        start: the initial centroids are evenly spaced ("linear"), quantiles ("density"), or drawn by
            k-means++ (Arthur & Vassilvitskii 2007) with a fixed seed.
    """
    distinct = np.unique(values)
    if len(distinct) <= count:
        return distinct
    values = values.ravel()
    if (distinct != 0).all():
        return _best(values, count, start)
    negative, positive = values[values < 0], values[values > 0]
    below = _proportion(len(negative), len(positive), count - 1)
    ends = _best(negative, below, start), _best(positive, count - 1 - below, start)
    return np.concatenate([ends[0], np.zeros(1, values.dtype), ends[1]])


def smallest_count(values: Array) -> int:
    """The smallest number of centroids that `centroids_of` needs for these values."""
    kinds = (values < 0).any(), (values == 0).any(), (values > 0).any()
    return 3 if all(kinds) else 2


def nearest(values: Array, centroids: Array) -> Array:
    """The index of the nearest centroid for each value, int32; only zeros get the centroid zero.

    Args:
        values: any shape.
        centroids: sorted. If zero is one of them, values get centroids of their sign.
    """
    index = np.searchsorted(_borders(centroids), values).astype(np.int32)
    (zero,) = np.nonzero(centroids == 0)
    if zero.size:
        place, last = int(zero[0]), len(centroids) - 1
        index = np.where(values < 0, np.minimum(index, max(place - 1, 0)), index)
        index = np.where(values > 0, np.maximum(index, min(place + 1, last)), index)
        index = np.where(values == 0, place, index)
    return index.astype(np.int32)


def _proportion(first: int, second: int, count: int) -> int:
    """The part of `count` for the first of two groups: by size, but at least one for each."""
    if not first or not second:
        return count if first else 0
    return min(max(round(count * first / (first + second)), 1), count - 1)


def _best(values: Array, count: int, start: Start) -> Array:
    """Runs Lloyd's algorithm; then splits one cluster and merges two others as long as the error falls.

    Otherwise Lloyd's local minimum can have several times the smallest error where tails are heavy.
    """
    if not count or not len(values):
        return np.empty(0, values.dtype)
    line = _Line.of(values)
    ends = line.converged(_STARTS[start](line.ordered, count))
    while (better := line.improved(ends, count)) is not None:
        ends = better
    return np.unique(line.means(ends).astype(values.dtype))


@dataclass(frozen=True, eq=False, slots=True)
class _Line:
    """Values in ascending order. A cluster is a slice of them; `ends` are the limits of all slices.

    `sums` and `squares` are running sums that start with 0: the sum over a slice is a difference.
    """

    ordered: Array
    sums: Array
    squares: Array

    @classmethod
    def of(cls, values: Array) -> _Line:
        ordered = np.sort(values).astype(np.float64)
        return cls(ordered, *(np.concatenate([[0], np.cumsum(one)]) for one in (ordered, ordered**2)))

    def converged(self, centroids: Array) -> Array:
        """The clusters, without empty ones, after Lloyd's rounds have converged."""
        ends = self._around(centroids)
        for _ in range(_ROUNDS):
            before, ends = ends, self._around(self.means(ends))
            if np.array_equal(before, ends):
                break
        return ends

    def means(self, ends: Array) -> Array:
        """The mean of each cluster, clipped to the cluster's values because running sums lose precision."""
        means = np.diff(self.sums[ends]) / np.diff(ends)
        return np.clip(means, self.ordered[ends[:-1]], self.ordered[ends[1:] - 1])

    def cost(self, ends: Array) -> float:
        """The squared error of all clusters."""
        return float(self._errors(ends[:-1], ends[1:]).sum())

    def improved(self, ends: Array, count: int) -> Array | None:
        """Better clusters after one is split in two; None when no split lowers the error.

        If there are `count` clusters already, two neighbours are merged first; the pair that adds the least
        error is tried first.
        """
        target = self.cost(ends) - _LEAST_GAIN * self.squares[-1]
        merged = [ends]
        if len(ends) - 1 == count:
            merged = [np.delete(ends, 1 + place) for place in np.argsort(self._losses(ends))]
        converged = (self.converged(self._split(one)) for one in merged)
        return next((one for one in converged if self.cost(one) < target), None)

    def _split(self, ends: Array) -> Array:
        """The centroids after the cluster with the largest gain is split at its mean."""
        starts, stops = ends[:-1], ends[1:]
        middles = np.searchsorted(self.ordered, self.means(ends))
        halves = self._errors(starts, middles) + self._errors(middles, stops)
        best = np.argmax(self._errors(starts, stops) - halves)
        return self.means(np.unique(np.append(ends, middles[best])))

    def _losses(self, ends: Array) -> Array:
        """The increase of the squared error when each cluster is merged with the next."""
        starts, middles, stops = ends[:-2], ends[1:-1], ends[2:]
        apart = self._errors(starts, middles) + self._errors(middles, stops)
        return self._errors(starts, stops) - apart

    def _errors(self, starts: Array, stops: Array) -> Array:
        """The squared error of each slice around its mean."""
        sums = self.sums[stops] - self.sums[starts]
        return self.squares[stops] - self.squares[starts] - sums**2 / np.maximum(stops - starts, 1)

    def _around(self, centroids: Array) -> Array:
        """The clusters of the values nearest to each centroid, without empty ones."""
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


@dataclass(frozen=True, eq=False, slots=True)
class Clusters:
    """A clustered kernel as indices into its distinct values.

    `assignment` is int32 in the kernel's shape; `centroids` (count,) are sorted and have the kernel's type.
    """

    assignment: Array
    centroids: Array

    @property
    def kernel(self) -> Array:
        """The kernel itself."""
        return self.centroids[self.assignment]


def clusters_of(kernel: Array) -> Clusters:
    """A kernel's distinct values, and the index of each weight's value."""
    centroids, assignment = np.unique(kernel, return_inverse=True)
    return Clusters(assignment.reshape(kernel.shape).astype(np.int32), centroids)
