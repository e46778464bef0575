"""Search for the fewest layers to keep out of int8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from quantize.precision.sensitivity import LayerSensitivity

# Returns the drop of the metric when the layers with these names stay out of int8.
Measure = Callable[[Iterable[str]], float]


class LayerGraph(Protocol):
    """Facts about a network that need no measurement of its metric."""

    def bridges(self, kept: Iterable[str]) -> list[str]:
        """The layers without weights between kept ones."""

    def conversions(self, kept: Iterable[str]) -> int:
        """The number of operators in the artifact that convert between number formats."""


@dataclass(frozen=True, slots=True)
class KeptLayers:
    """The layers kept out of int8, the remaining drop, and the reasons for some of the layers."""

    kept: tuple[str, ...]
    drop: float
    reasons: Mapping[str, str] = field(default_factory=dict)

    def why(self, name: str) -> str:
        """Why a layer is kept."""
        return self.reasons.get(name, "among the most sensitive; fewer of them do not keep the budget")


@dataclass(frozen=True, eq=False, slots=True)
class KeptLayerSearch:
    """Exponential, then binary search over the ranking; then returns layers to int8 one by one.

    At most `requantize` artifacts are measured to return layers.
    """

    max_drop: float
    requantize: int
    measure: Measure

    def run(self, layers: Sequence[LayerSensitivity], graph: LayerGraph, plain: KeptLayers) -> KeptLayers:
        """The smallest choice found within the budget; if there is none, the one with the smallest drop.

        `layers` are ranked, the most sensitive first; `plain` is the choice that keeps no layer.
        """
        tried = self.prefixes([one.name for one in layers], plain)
        within = [one for one in tried if one.drop <= self.max_drop]
        if not within:
            best = min(tried, key=lambda one: (one.drop, len(one.kept)))
            why = "in the best choice found, which is beyond the budget"
            return replace(best, reasons=dict.fromkeys(best.kept, why))
        fewest = min(within, key=lambda one: len(one.kept))
        return self.with_bridges(graph, self.requantized(layers, fewest))

    def prefixes(self, order: Sequence[str], plain: KeptLayers) -> list[KeptLayers]:
        """Tries the 1, 2, 4... most sensitive layers until the budget is kept, then bisects the last two."""
        tried = {0: plain}
        low, high = 0, min(1, len(order))
        while self._at(tried, order, high).drop > self.max_drop and high < len(order):
            low, high = high, min(2 * high, len(order))
        while high - low > 1 and tried[high].drop <= self.max_drop:
            middle = (low + high) // 2
            if self._at(tried, order, middle).drop <= self.max_drop:
                high = middle
            else:
                low = middle
        return list(tried.values())

    def requantized(self, layers: Sequence[LayerSensitivity], found: KeptLayers) -> KeptLayers:
        """Returns layers to int8 that the budget does not need, those with the most multiply-adds first."""
        costly = sorted(
            (one for one in layers if one.name in found.kept), key=lambda one: (-one.macs, one.error)
        )
        for one in costly[: self.requantize]:
            fewer = tuple(name for name in found.kept if name != one.name)
            drop = self.measure(fewer)
            if drop <= self.max_drop:
                found = replace(found, kept=fewer, drop=drop)
            else:
                reasons = {**found.reasons, one.name: f"in int8 as well, the drop is {drop:.4f}"}
                found = replace(found, reasons=reasons)
        return found

    def with_bridges(self, graph: LayerGraph, found: KeptLayers) -> KeptLayers:
        """Adds layers between kept ones where that saves conversions and the budget is still kept."""
        kept, count = found.kept, graph.conversions(found.kept)
        reasons = dict(found.reasons)
        for name in graph.bridges(kept):
            now = graph.conversions((*kept, name))
            if now < count:
                reasons[name] = f"joins layers that are kept: {count - now} conversions fewer"
                kept, count = (*kept, name), now
        if kept == found.kept:
            return found
        drop = self.measure(kept)
        return KeptLayers(kept, drop, reasons) if drop <= self.max_drop else found

    def _at(self, tried: dict[int, KeptLayers], order: Sequence[str], count: int) -> KeptLayers:
        if count not in tried:
            kept = tuple(order[:count])
            tried[count] = KeptLayers(kept, self.measure(kept))
        return tried[count]
