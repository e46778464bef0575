"""Cross-layer equalisation: scales the channels of a tensor to similar ranges, which suit few bits.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1. In
the paper, weights have one scale per tensor. Here they have one per output channel, and activations have one
per tensor. So this equalizes the ranges of activations, as far as the next layer's weights allow.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from effkeras.graph.functional import deep_graphs
from effkeras.graph.rewrite import TINY, Graph, relative_errors, rewrite
from effkeras.support.errors import EffkerasError
from quantize.post_training.layer_pairs import (
    CAP,
    LayerPair,
    divide_outputs,
    input_shares,
    input_weights,
    layer_pairs,
    multiply_inputs,
)
from quantize.report import Compressed, LayerReport, StepReport
from quantize.rewriting.folding import fold

STEP = "equalize"
ERROR_IS = "largest range / smallest, of the output's channels before"

# A capped channel whose maximum on the images is below this share of the cap is assumed never to reach it.
ROOM = 0.8


def equalize(model: keras.Model, images: Iterable[np.ndarray]) -> Compressed:
    """Equalizes the ranges of channels in a model without changing what it computes.

    Batch normalisation is folded first. Then each channel between two layers with weights is divided by a
    number, and the next layer's weights are multiplied by it. Only relu, relu6 or layers that keep channels
    apart may be between. A channel's range becomes proportional to the square root of its largest share in
    the next layer's outputs, so that activations and weights are rounded equally finely; before a depthwise
    layer all ranges become equal. A channel that reaches the cap of relu6 on the images is not changed, and
    no other is scaled up to the cap.

    Args:
        model: any functional Keras model with one input.
        images: inputs of the model, float32 (1, H, W, C) each, to measure ranges on.

    Returns:
        The new model, and a report with an entry per layer with weights: the ratio of its channels' largest
        to smallest range, or why they cannot be scaled.

    Raises:
        EffkerasError: the model is not functional, weights are NaN or infinite, or there are no images.
    """
    graph = Graph.of(fold(model).model)
    found = list(layer_pairs(graph))
    pairs = [one for one in found if isinstance(one, LayerPair)]
    shown = list(images)
    ranges = channel_ranges(graph.model, [pair.between for pair in pairs], shown)
    equal = rewrite(graph, {})
    entries = {}
    for pair, extent in zip(pairs, ranges, strict=True):
        scale = _scale(pair, [equal.get_layer(one.name) for one in pair.consumers], extent)
        divide_outputs(equal.get_layer(pair.producer.name), scale)
        for one in pair.consumers:
            multiply_inputs(equal.get_layer(one.name), scale)
        entries[id(pair)] = _entry(pair, extent, scale)
    layers = [
        entries[id(one)] if isinstance(one, LayerPair) else _report(one.producer, "skipped", one.why)
        for one in found
    ]
    figures = {"output error": _change(graph.model, equal, shown)}
    return Compressed(equal, StepReport(STEP, tuple(layers), ERROR_IS, figures))


def channel_ranges(
    model: keras.Model, tensors: list[keras.KerasTensor], images: list[np.ndarray]
) -> list[np.ndarray]:
    """The largest absolute value of each channel of each tensor over all images, float64 (C,)."""
    if not images:
        raise EffkerasError("equalisation measures ranges on images and there are none; check --data")
    if not tensors:
        return []
    with deep_graphs():
        largest = [keras.ops.max(keras.ops.abs(x), axis=tuple(range(len(x.shape) - 1))) for x in tensors]
        meter = keras.Model(model.input, largest)
    rows = [keras.tree.flatten(meter.predict_on_batch(pixels)) for pixels in images]
    return [np.max(column, axis=0) for column in zip(*rows, strict=True)]


def _scale(pair: LayerPair, consumers: list[keras.Layer], extent: np.ndarray) -> np.ndarray:
    """The divisor of each channel, (C,)."""
    shares = np.max([input_shares(one, extent) for one in consumers], axis=0)
    used = (extent > 0) & (shares > 0)
    movable = used & (extent < ROOM * CAP) if pair.capped else used
    if not movable.any():
        return np.ones_like(extent)
    wanted = np.sqrt(np.where(movable, shares, 1.0))
    fixed = used & ~movable
    if fixed.any():
        wanted = wanted * _typical(extent[fixed] / np.sqrt(shares[fixed]))
    else:
        wanted = wanted * _typical(extent[used] / wanted[used])
    if pair.capped:
        largest = wanted[movable].max() if not fixed.any() else ROOM * CAP
        wanted = np.minimum(wanted * ROOM * CAP / largest, ROOM * CAP)
    scale = np.where(movable, np.where(movable, extent, 1.0) / wanted, 1.0)
    return np.where(extent > 0, scale, _scale_of_dead(consumers, scale, extent > 0))


def _scale_of_dead(consumers: list[keras.Layer], scale: np.ndarray, live: np.ndarray) -> np.ndarray:
    """The divisors of channels that are zero on all images, (C,).

    Their weights in the next layer have no effect, but must not enlarge the range of the other weights.
    """
    weights = np.max([input_weights(one) for one in consumers], axis=0)
    usual = np.median((weights * scale)[live])
    stretching = (weights > usual) & (usual > 0)
    return np.where(stretching, usual / np.maximum(weights, TINY), 1.0)


def _typical(values: np.ndarray) -> float:
    """The geometric mean."""
    return float(np.exp(np.log(values).mean()))


def _entry(pair: LayerPair, extent: np.ndarray, scale: np.ndarray) -> LayerReport:
    if (scale == 1).all():
        return _report(pair.producer, "skipped", "all its channels reach the cap of relu6, or none is used")
    used = extent[extent > 0]
    return _report(pair.producer, "done", "", float(used.max() / used.min()))


def _report(layer: keras.Layer, what: str, why: str, error: float | None = None) -> LayerReport:
    return LayerReport(layer.name, type(layer).__name__, what, why, error)  # type: ignore[arg-type]


def _change(before: keras.Model, after: keras.Model, images: list[np.ndarray]) -> float:
    wanted, got = (before.input, list(before.outputs)), (after.input, list(after.outputs))
    return max(relative_errors(np.concatenate(images[:4]), wanted, got))
