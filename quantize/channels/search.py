"""Greedy search for the channels to remove: the smallest loss of importance per time saved first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np

from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.latency import InterpreterOptions, Plan, measure_all
from effkeras.support.errors import EffkerasError
from quantize.channels.costs import TIME, costs_of
from quantize.channels.groups import Channels
from quantize.specs import ChannelSpec

_EVENNESS = 0.75


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """The importance of all units, (U,), and the weight of each group's importance, (G,)."""

    units: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True, slots=True)
class Removal:
    """One step: `left` units of a group stay."""

    group: int
    left: int


def weights_of(channels: Channels, values: np.ndarray, *, absolute: bool) -> np.ndarray:
    """The weight of each group's importance, (G,).

    `absolute` values mean the same in all layers, as changes of the loss do: the weight is their sum. Others
    only compare units of one group: the weight is the time of the calls that the group takes part in, to a
    power between 1, which prunes all layers alike, and 0, which makes all cost alike.
    """
    if absolute:
        return np.array([values[group.units].sum() for group in channels.groups])
    sizes = channels.sizes
    return (sizes * costs_of(channels, TIME).slopes(sizes)) ** _EVENNESS


class Search:
    """Removes units step by step until no more may be removed.

    A step removes the least important units of one group, down to the next multiple of the divisor. Its
    price is their share of the importance that the group still has, so the price rises as a group shrinks.
    """

    def __init__(self, channels: Channels, ranking: Ranking, spec: ChannelSpec):
        self._spec = spec
        self._ranking = ranking
        self._channels = channels
        self._time = costs_of(channels, TIME)
        self._free = channels.free
        self._sums = {index: self._running_sum(index) for index in self._free}

    def steps(self) -> Iterator[Removal]:
        """All steps, the best first."""
        kept = self._channels.sizes
        while True:
            prices = self._prices(kept)
            best = int(np.argmin(prices))
            if not np.isfinite(prices[best]):
                return
            kept[best] = self.next_width(int(kept[best]))
            yield Removal(best, int(kept[best]))

    def next_width(self, width: int) -> int:
        """The largest allowed width below this one; this one if there is none."""
        lower = (width - 1) // self._spec.divisor * self._spec.divisor
        return lower if lower >= max(self._spec.smallest, 1) else width

    def smallest(self) -> np.ndarray:
        """The fewest units that each group may keep, (G,)."""
        kept = self._channels.sizes
        for index in self._free:
            while (lower := self.next_width(int(kept[index]))) < kept[index]:
                kept[index] = lower
        return kept

    def _prices(self, kept: np.ndarray) -> np.ndarray:
        """The importance lost per time saved by the next step of each group, (G,)."""
        slopes, prices = self._time.slopes(kept), np.full(len(kept), np.inf)
        for index in self._free:
            width = int(kept[index])
            lower = self.next_width(width)
            if lower < width:
                sums = self._sums[index]
                lost = self._ranking.groups[index] * (1 - sums[lower] / sums[width])
                prices[index] = lost / max(slopes[index] * (width - lower), 1e-12)
        return prices

    def _running_sum(self, index: int) -> np.ndarray:
        """The importance of the n best units of a group, for n from 0; strictly increasing."""
        values = np.sort(self._ranking.units[self._channels.groups[index].units])[::-1]
        smallest = max(float(values.mean()), 1e-12) * 1e-6
        return np.concatenate([[0.0], np.cumsum(values + smallest)])


def chosen(channels: Channels, ranking: Ranking, kept: np.ndarray) -> np.ndarray:
    """Which units stay, bool (U,): the most important of each group, the first of equal ones."""
    stays = np.zeros(len(ranking.units), bool)
    for group, count in zip(channels.groups, kept.tolist(), strict=True):
        order = np.argsort(-ranking.units[group.units], kind="stable")
        stays[group.units[order[:count]]] = True
    return stays


def after(removals: list[Removal], sizes: np.ndarray) -> np.ndarray:
    """The units kept of each group, (G,), after these removals."""
    kept = sizes.copy()
    for removal in removals:
        kept[removal.group] = removal.left
    return kept


def restored(
    removals: list[Removal], sizes: np.ndarray, is_reached: Callable[[np.ndarray], bool]
) -> np.ndarray:
    """The units kept of each group, (G,), after undoing removals that the target does not need.

    The last removal may overshoot the target, so that an earlier one is no longer needed.
    """
    needed = list(removals)
    for index in reversed(range(len(removals))):
        without = needed[:index] + needed[index + 1 :]
        if is_reached(after(without, sizes)):
            needed = without
    return after(needed, sizes)


MEASUREMENTS = 6
# The search ends when the measured share is at most this much below the wanted one.
CLOSE = 0.03
PLAN = Plan(runs=30, warmup=5)


@dataclass(frozen=True, slots=True)
class Point:
    """The estimated and the measured share of the latency after a number of steps."""

    steps: int
    estimate: float
    measured: float


def latency_ratio(before: bytes, after: keras.Model) -> float:
    """The latency of `after` / `before` as float artifacts: shortest of interleaved runs, one thread."""
    options = InterpreterOptions(xnnpack=True, threads=1)
    old, new = measure_all([(before, options), (to_flatbuffer(after), options)], PLAN)
    return new.min_ms / old.min_ms


def bisect(estimates: np.ndarray, keep: float, measure: Callable[[int], float]) -> Point:
    """Finds the fewest steps whose measured share is at most `keep`, to within `CLOSE` where possible.

    Args:
        estimates: the estimated share after 0, 1, 2, ... steps, decreasing.
        keep: the wanted share.
        measure: returns the measured share after a number of steps.

    Raises EffkerasError when all steps together do not reach `keep`.
    """
    above, below = Point(0, 1.0, 1.0), None
    for _ in range(MEASUREMENTS):
        place = _place(estimates, keep, above, below)
        point = Point(place, float(estimates[place]), measure(place))
        if point.measured <= keep:
            below = point
        else:
            above = point
        if below and (keep - below.measured <= CLOSE or below.steps - above.steps <= 1):
            return below
        if above.steps == len(estimates) - 1:
            break
    if below is None:
        raise EffkerasError(
            f"{keep:.0%} of the latency cannot be reached: {above.measured:.0%} was measured after "
            f"{above.steps} of {len(estimates) - 1} steps; keep more, or allow a smaller width"
        )
    return below


def _place(estimates: np.ndarray, keep: float, above: Point, below: Point | None) -> int:
    """Where to measure next: where the estimate, corrected by the measurements, is just below `keep`."""
    last = len(estimates) - 1
    if below is None:
        wanted = (keep - CLOSE / 2) * above.estimate / above.measured
        return min(last, max(above.steps + 1, _first(estimates, wanted)))
    share = (above.measured - keep + CLOSE / 2) / max(above.measured - below.measured, 1e-6)
    wanted = above.estimate + (below.estimate - above.estimate) * min(max(share, 0.1), 0.9)
    return min(below.steps - 1, max(above.steps + 1, _first(estimates, wanted)))


def _first(estimates: np.ndarray, wanted: float) -> int:
    """The first index with an estimate of at most `wanted`; the last index if there is none."""
    found = np.flatnonzero(estimates <= wanted)
    return int(found[0]) if len(found) else len(estimates) - 1
