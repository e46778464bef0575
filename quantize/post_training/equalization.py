"""Cross-layer equalisation: scales the channels of a tensor to similar ranges, which suit few bits.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1. In
the paper, weights have one scale per tensor. Here they have one per output channel, and activations have one
per tensor. So this equalizes the ranges of activations, as far as the next layer's weights allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import Call, deep_graphs
from effkeras.graph.rewrite import TINY, Graph, relative_errors, rewrite
from effkeras.layers import DropBlock, DropPath
from effkeras.support.errors import EffkerasError
from quantize.report import Compressed, LayerReport, StepReport
from quantize.rewriting.folding import fold

STEP = "equalize"
ERROR_IS = "largest range / smallest, of the output's channels before"

# A capped channel whose maximum on the images is below this share of the cap is assumed never to reach it.
ROOM = 0.8
CAP = 6.0  # of relu6

# No subclasses: a subclass may use its kernel differently.
_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
# Layers whose output channels scale with their input channels.
_PASSES_ON = (
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.UpSampling2D,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    DropBlock,
    DropPath,
)


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


@dataclass(frozen=True, eq=False, slots=True)
class LayerPair:
    """A layer with weights, the layers that consume its output, and the tensor between them.

    Dividing the producer's output channels by positive numbers and multiplying the consumers' weights by
    them changes nothing, if no channel of a `capped` pair reaches the cap before or after the scaling.
    """

    producer: keras.Layer
    consumers: tuple[keras.Layer, ...]
    between: Any
    capped: bool


@dataclass(frozen=True, slots=True)
class UnpairedLayer:
    """A layer whose output channels cannot be scaled, and the reason."""

    producer: keras.Layer
    why: str


def layer_pairs(graph: Graph) -> Iterator[LayerPair | UnpairedLayer]:
    """For each layer with weights, in execution order: its pair, or the reason why it has none."""
    for call in graph.calls:
        if type(call.operation) in _LAYERS:
            yield _pair(graph, call)


def divide_outputs(layer: keras.Layer, scale: np.ndarray) -> None:
    """Divides a layer's output channels; `scale` is (C,)."""
    kernel, *bias = layer.get_weights()
    spread = scale.reshape(kernel.shape[-2:]) if _is_depthwise(layer) else scale
    layer.set_weights([kernel / spread, *(one / scale for one in bias)])


def multiply_inputs(layer: keras.Layer, scale: np.ndarray) -> None:
    """Multiplies the weights of a layer's input channels; `scale` is (C,)."""
    kernel, *bias = layer.get_weights()
    layer.set_weights([kernel * scale[:, None], *bias])


def input_weights(layer: keras.Layer) -> np.ndarray:
    """The largest absolute weight of each input channel, (C,); 0 for depthwise layers."""
    kernel = np.abs(layer.get_weights()[0])
    largest = kernel.max(axis=(*range(kernel.ndim - 2), kernel.ndim - 1))
    return np.zeros_like(largest) if _is_depthwise(layer) else largest


def input_shares(layer: keras.Layer, ranges: np.ndarray) -> np.ndarray:
    """The largest share of each input channel in any output channel, (C,) in 0..1.

    For inputs in the given ranges, the share is the largest term that a channel adds to an output channel,
    relative to the largest term there. Scaling input or output channels does not change it. For depthwise
    layers all shares are 1.
    """
    if _is_depthwise(layer):
        return np.ones(len(ranges))
    kernel = np.abs(layer.get_weights()[0])
    terms = kernel.max(axis=tuple(range(kernel.ndim - 2))) * ranges[:, None]
    return (terms / np.maximum(terms.max(axis=0), TINY)).max(axis=1)


def _pair(graph: Graph, call: Call) -> LayerPair | UnpairedLayer:
    layer, why = call.operation, _unfit(graph, call)
    if why:
        return UnpairedLayer(layer, why)
    capped, x = _activation(layer) == "relu6", call.outputs[0]
    while True:
        users = graph.users(x)
        if graph.is_output(x) or not users:
            return UnpairedLayer(layer, "the model puts its output out")
        if len(users) > 1 or type(users[0].operation) in _LAYERS:
            break
        after = users[0].operation
        if _kind(after) is None:
            return UnpairedLayer(layer, f"{_described(after)} does not scale with its input")
        capped = capped or _kind(after) == "relu6"
        x = users[0].outputs[0]
    bad = next((user for user in users if not _can_take(graph, user)), None)
    if bad is not None:
        return UnpairedLayer(
            layer, f"its output also goes into {bad.operation.name}, which cannot undo a scale"
        )
    return LayerPair(layer, tuple(user.operation for user in users), x, capped)


def _unfit(graph: Graph, call: Call) -> str:
    if len(graph.calls_with(call.operation)) > 1:
        return "it is shared by several maps"
    if _activation(call.operation) is None:
        return f"its activation {call.operation.activation.__name__} does not scale with its input"
    return ""


def _can_take(graph: Graph, user: Call) -> bool:
    layer = user.operation
    return (
        type(layer) in _LAYERS
        and getattr(layer, "groups", 1) == 1
        and len(graph.calls_with(layer)) == 1
        and layer.get_weights()[0].shape[-2] == user.inputs[0].shape[-1]
    )


def _kind(operation: Any) -> str | None:
    """ "linear" or "relu" if the output scales with the input, "relu6" if it does below 6; else None."""
    if isinstance(operation, _PASSES_ON):
        return "linear"
    if isinstance(operation, keras.layers.Activation):
        return _activation(operation)
    if isinstance(operation, keras.layers.ReLU) and not operation.threshold:
        return {None: "relu", CAP: "relu6"}.get(operation.max_value)
    return None


def _activation(layer: Any) -> str | None:
    name = getattr(layer.activation, "__name__", "")
    return name if name in ("linear", "relu", "relu6") else None


def _described(operation: Any) -> str:
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", type(operation).__name__)
    return f"{operation.name} ({name})"


def _is_depthwise(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D)
