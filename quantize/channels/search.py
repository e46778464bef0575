"""Which channels go: greedy removal, the cheapest loss of importance per saved time first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

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


def given_back(
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
