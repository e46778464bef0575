"""Which channels go: greedy removal, the cheapest loss of importance per saved time first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np

from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.latency import Plan, Setting, measure_all
from effkeras.support.errors import EffkerasError
from quantize.channels.costs import TIME, costs_of
from quantize.channels.groups import Channels
from quantize.specs import ChannelSpec

_EVENNESS = 0.75


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """The importance of all units, (U,), and how much that of each group weighs, (G,)."""

    units: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True, slots=True)
class Removal:
    """One step: so many units of a group are left."""

    group: int
    left: int


def weights_of(channels: Channels, values: np.ndarray, *, absolute: bool) -> np.ndarray:
    """How much the importance of each group weighs, (G,).

    Values that mean the same in all layers, such as changes of the loss, weigh by their sum. Others only
    compare units of one group; groups then weigh by the time that they take part in, to a power between 1,
    which prunes all layers alike, and 0, which makes all cost alike.
    """
    if absolute:
        return np.array([values[group.units].sum() for group in channels.groups])
    sizes = channels.sizes
    return (sizes * costs_of(channels, TIME).slopes(sizes)) ** _EVENNESS


class Search:
    """Removes units step by step until nothing may go.

    A step takes the least important units of one group, down to the next multiple of the divisor. It costs
    their share of the importance that the group still has, so that a group is the dearer the less of it is
    left.
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
        """The largest allowed width below this one, or this one."""
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
        """Importance lost per time saved by the next step of each group, (G,)."""
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
        """The importance of the n best units of a group, n from 0 on; never quite the same."""
        values = np.sort(self._ranking.units[self._channels.groups[index].units])[::-1]
        least = max(float(values.mean()), 1e-12) * 1e-6
        return np.concatenate([[0.0], np.cumsum(values + least)])


def chosen(channels: Channels, ranking: Ranking, kept: np.ndarray) -> np.ndarray:
    """Which units stay, bool (U,): the most important of each group, the first of equal ones."""
    stays = np.zeros(len(ranking.units), bool)
    for group, count in zip(channels.groups, kept.tolist(), strict=True):
        order = np.argsort(-ranking.units[group.units], kind="stable")
        stays[group.units[order[:count]]] = True
    return stays


def after(removals: list[Removal], sizes: np.ndarray) -> np.ndarray:
    """Units kept of each group, (G,), after removals in order."""
    kept = sizes.copy()
    for removal in removals:
        kept[removal.group] = removal.left
    return kept


def restored(
    removals: list[Removal], sizes: np.ndarray, is_reached: Callable[[np.ndarray], bool]
) -> np.ndarray:
    """Units kept of each group, (G,), after removals less those that the target can do without.

    The last one may have removed more than was left to remove.
    """
    needed = list(removals)
    for index in reversed(range(len(removals))):
        without = needed[:index] + needed[index + 1 :]
        if is_reached(after(without, sizes)):
            needed = without
    return after(needed, sizes)


MEASUREMENTS = 6
# A share this close below the one that is wanted will do.
CLOSE = 0.03
PLAN = Plan(runs=30, warmup=5)


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the way: after so many steps, with an estimated and a measured share of the latency."""

    steps: int
    estimate: float
    measured: float


def latency_ratio(before: bytes, after: keras.Model) -> float:
    """The shortest run of a model's float artifact over that of another, interleaved, on one thread."""
    setting = Setting(xnnpack=True, threads=1)
    old, new = measure_all([(before, setting), (to_flatbuffer(after), setting)], PLAN)
    return new.min_ms / old.min_ms


def bisect(estimates: np.ndarray, keep: float, measure: Callable[[int], float]) -> Point:
    """The first place whose measured share is `keep` or less, within `CLOSE` or as well as can be found.

    Args:
        estimates: the estimated share after 0, 1, 2, ... steps, falling.
        keep: the share that is wanted.
        measure: the measured share after so many steps.

    Raises EffkerasError when not even all steps reach it.
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
    """Where to measure next: where the estimate, put right by what was measured, says a bit below `keep`."""
    last = len(estimates) - 1
    if below is None:
        wanted = (keep - CLOSE / 2) * above.estimate / above.measured
        return min(last, max(above.steps + 1, _first(estimates, wanted)))
    share = (above.measured - keep + CLOSE / 2) / max(above.measured - below.measured, 1e-6)
    wanted = above.estimate + (below.estimate - above.estimate) * min(max(share, 0.1), 0.9)
    return min(below.steps - 1, max(above.steps + 1, _first(estimates, wanted)))


def _first(estimates: np.ndarray, wanted: float) -> int:
    """The first place with an estimate of `wanted` or less; the last if there is none."""
    found = np.flatnonzero(estimates <= wanted)
    return int(found[0]) if len(found) else len(estimates) - 1
