"""Pairs of layers where the next layer's weights can undo a scaling of the first layer's output channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import Call
from effkeras.graph.rewrite import TINY, Graph
from effkeras.layers import DropBlock, DropPath

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
