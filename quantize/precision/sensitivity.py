"""The sensitivity of each layer to quantization, and the search for the fewest layers to keep out of int8.

The sensitivity is the output error when the layer is quantized alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from effkeras.support import results
from effkeras.support.console import table, track
from effkeras.support.errors import EffkerasError
from quantize.formats import find
from quantize.post_training.artifact import FloatParts
from quantize.post_training.calibration import Calibration
from quantize.post_training.options import PtqOptions, check
from quantize.post_training.quantization import float_parts, inputs_of
from quantize.precision.measurements import MeasurementCache
from quantize.precision.partial import Partial, QuantizableLayer

if TYPE_CHECKING:
    import keras

IMAGES = 16
SHOWN = 20
ERROR_IS = "error / std of the outputs"

# Returns the metric of an artifact; higher is better.
Metric = Callable[[bytes], float]
# Returns the drop of the metric when the layers with these names stay out of int8.
Measure = Callable[[Iterable[str]], float]


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """The effect of quantizing one layer alone.

    `ops` are its operators in the artifact, `macs` its multiply-adds. `error` is the root mean square error
    of the outputs as a share of their standard deviation; `drop` is the drop of the metric, if measured.
    """

    name: str
    ops: tuple[str, ...]
    macs: int
    error: float
    drop: float | None = None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """All layers of a model, the most sensitive first; `error` is the error with all layers quantized."""

    model: str
    recipe: str
    images: int
    error: float
    layers: tuple[LayerSensitivity, ...]

    def to_rows(self) -> list[results.Row]:
        """A plain record for each layer, kind "sensitivity"."""
        own = {"kind": "sensitivity", "model": self.model, "recipe": self.recipe, "images": self.images}
        rows: list[results.Row] = []
        for rank, one in enumerate(self.layers, start=1):
            layer = {"layer": one.name, "ops": list(one.ops), "macs": one.macs, "error": one.error}
            rows.append({**own, "rank": rank, **layer, "drop": one.drop, "error_of_all": self.error})
        return rows

    def show(self, most: int = SHOWN) -> None:
        """Prints the `most` sensitive layers."""
        total = max(sum(one.macs for one in self.layers), 1)
        measured = any(one.drop is not None for one in self.layers)
        columns = ("layer", "ops", "error", "% MACs", *(("drop",) if measured else ()))
        rows = []
        for one in self.layers[:most]:
            drop = [] if one.drop is None else [f"{one.drop:.4f}"]
            rows.append(
                [one.name, str(len(one.ops)), f"{one.error:.4f}", f"{100 * one.macs / total:.2f}", *drop]
            )
        title = (
            f"{self.model}: one layer at a time as {self.recipe}, {self.images} images; all of it: "
            f"{self.error:.4f}\n{ERROR_IS}; the worst {len(rows)} of {len(self.layers)} layers"
        )
        table(title, columns, rows)


@dataclass(frozen=True, slots=True)
class SensitivityOptions:
    """The number of images to compare outputs on, and the metric to measure, if any."""

    images: int = IMAGES
    metric: Metric | None = None


def sensitivity(
    model: keras.Model,
    data: Calibration,
    recipe: str = "int8",
    *,
    options: SensitivityOptions | None = None,
    ptq: PtqOptions | None = None,
    cache: MeasurementCache | None = None,
) -> Sensitivity:
    """Ranks the layers of a model by the output error when each is quantized alone.

    Args:
        model: any functional Keras model that takes one image.
        data: the images to calibrate and to compare outputs on; see `quantize.ptq`.
        recipe: the format of a quantized layer; one with integer activations or weights.
        options: the number of images to compare outputs on, and a metric to measure.
        ptq: how the model is quantized, instead of `recipe` with its defaults.
        cache: earlier results, which are not measured again.

    Raises:
        EffkerasError: as `quantize.ptq`, or the recipe quantizes no layer.
    """
    ptq = replace(ptq or PtqOptions(find(recipe)), io="float32")  # outputs are compared as they are
    check(ptq, data)
    parts = float_parts(model, ptq, data)
    return rank(parts, ptq, inputs_of(parts, ptq, data), options or SensitivityOptions(), cache)


def rank(
    parts: FloatParts,
    ptq: PtqOptions,
    pixels: Iterable[np.ndarray],
    options: SensitivityOptions,
    cache: MeasurementCache | None = None,
) -> Sensitivity:
    """As `sensitivity`, for a float conversion, with images as it takes them."""
    partial = Partial.of(parts, ptq, pixels, options.images)
    return ranked(partial, options, cache if cache is not None else MeasurementCache())


def ranked(partial: Partial, options: SensitivityOptions, cache: MeasurementCache) -> Sensitivity:
    """As `sensitivity`, with ranges already measured."""
    parts, ptq = partial.parts, partial.options
    if not partial.layers:
        raise EffkerasError(f"the recipe {ptq.format.name} quantizes no layer of {parts.model.name}")
    before = options.metric(partial.unquantized()) if options.metric else None
    layers = [
        _measured(partial, layer, options.metric, before, cache)
        for layer in track(partial.layers, "layer by layer")
    ]
    layers.sort(key=lambda one: (-one.error, one.name))
    name = parts.spec.name if parts.spec else parts.model.name
    shown = len(partial.reference.inputs)
    return Sensitivity(name, ptq.format.name, shown, partial.reference(partial.only(None)), tuple(layers))


def _measured(
    partial: Partial,
    layer: QuantizableLayer,
    metric: Metric | None,
    before: float | None,
    cache: MeasurementCache,
) -> LayerSensitivity:
    name = f"sensitivity: {layer.name}" + (", with the metric" if metric else "")
    if name not in cache:
        error = partial.reference(partial.only(layer.scopes))
        drop = None if metric is None or before is None else before - metric(partial.only_whole(layer.scopes))
        cache[name] = [error, drop]
    error, drop = cache[name]
    return LayerSensitivity(layer.name, layer.ops, layer.macs, error, drop)


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
