"""The sensitivity of each layer to quantization: the output error when it is quantized alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
