"""Recognizes swish and squeeze-and-excitation (Hu et al. 2018) in a graph, whichever layers implement them.

They are recognized by their computation. Squeeze-and-excitation is a map times one factor per channel, which
is computed only from the means of the same map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import Call, CopyRules, Part, copy_onto, deep_graphs
from effkeras.graph.rewrite import Graph, key
from effkeras.layers import ChannelSlice
from effkeras.support.errors import EffkerasError
from quantize.rewriting.folding import is_plain

BATCH = 16
SPATIAL = ([1, 2], [-3, -2])
# Layers that a factor per channel passes through unchanged.
PASSES = (keras.layers.Dropout, keras.layers.SpatialDropout2D, keras.layers.ZeroPadding2D)

SWISH = ("silu", "swish")
SIGMOID = ("sigmoid",)

Array = np.ndarray
KerasTensor = Any


@dataclass(frozen=True, eq=False, slots=True)
class SqueezeExcitation:
    """A map times a factor per channel that is computed from the map's means.

    `scale` is the multiplication, `place` the index of the map, (B, H, W, C), among its inputs; the other
    input is the factor, (B, 1, 1, C). `calls` are the calls that compute the factor, `means` those of them
    that take the map.
    """

    scale: Call
    place: int
    calls: tuple[Call, ...]
    means: tuple[Call, ...]

    @property
    def map(self) -> KerasTensor:
        """The map that is scaled."""
        return self.scale.inputs[self.place]

    @property
    def factor(self) -> KerasTensor:
        """The factor per channel."""
        return self.scale.inputs[1 - self.place]


def find_squeeze_excitations(graph: Graph) -> tuple[SqueezeExcitation, ...]:
    """All squeeze-and-excitations of a graph, in execution order."""
    found = (_gate(graph, call) for call in graph.calls if is_product(call))
    return tuple(gate for gate in found if gate is not None)


def is_product(call: Call) -> bool:
    """Whether a call multiplies two tensors of the graph."""
    is_layer = isinstance(call.operation, keras.layers.Multiply)
    return len(call.inputs) == 2 and (is_layer or type(call.operation).__name__ == "Multiply")


def activation_of(operation: Any) -> str:
    """Keras' name of the function that an operation is or ends with; empty for none."""
    if not isinstance(operation, keras.Layer):
        return type(operation).__name__.lower()
    is_lambda = isinstance(operation, keras.layers.Lambda)
    function = getattr(operation, "function" if is_lambda else "activation", None)
    return getattr(function, "__name__", "")


def is_function(operation: Any) -> bool:
    """Whether an operation is a bare function, such as keras.ops.silu or a Lambda."""
    return not isinstance(operation, keras.Layer) or isinstance(operation, keras.layers.Lambda)


def swish_input(graph: Graph, call: Call) -> int | None:
    """The index of the input x of a product x * sigmoid(x); None for other products."""
    for place in (0, 1):
        other = graph.maker(call.inputs[1 - place])
        is_sigmoid = activation_of(other.operation) in SIGMOID and not has_weights(other.operation)
        if is_sigmoid and other.inputs[0] is call.inputs[place]:
            return place
    return None


def has_weights(operation: Any) -> bool:
    """Whether an operation is a layer with weights."""
    return bool(getattr(operation, "weights", ()))


def measured_factors(graph: Graph, gates: Iterable[SqueezeExcitation], images: Array) -> list[Array]:
    """The mean factor (C,) of each gate over images (B, H, W, 3)."""
    chosen = list(gates)
    if not chosen:
        return []
    with deep_graphs():
        factors = {str(index): gate.factor for index, gate in enumerate(chosen)}
        outputs = keras.Model(graph.model.input, factors).predict(images, batch_size=BATCH, verbose=0)
    return [_mean(gate, outputs[str(index)]) for index, gate in enumerate(chosen)]


def resting_factor(graph: Graph, gate: SqueezeExcitation) -> Array:
    """A gate's factor (C,) for a map whose means are all zero: used without images."""
    if len(gate.means) != 1:
        raise EffkerasError(f"{gate.scale.operation.name}: its gate has several means; give images")
    start = gate.means[0].outputs[0]
    x = keras.Input(batch_shape=(1, *start.shape[1:]))
    ends = copy_onto(x, Part(graph.model, start, (gate.factor,)), CopyRules(weights=True))
    rest = np.zeros((1, *start.shape[1:]), np.float32)
    return _mean(gate, keras.Model(x, ends[0]).predict_on_batch(rest))


def absorbers(graph: Graph, x: KerasTensor, factor: Array) -> list[tuple[Call, Array]] | None:
    """The calls whose weights can absorb a map's factor (C,), with their parts of it; None if one cannot."""
    if graph.is_output(x):
        return None
    found: list[tuple[Call, Array]] = []
    for call in graph.users(x):
        part = _absorbers_after(graph, call, factor)
        if part is None:
            return None
        found += part
    return found


def live_calls(graph: Graph, removed: Iterable[SqueezeExcitation]) -> list[Call]:
    """The calls that the outputs need once gates are removed, in execution order."""
    maps = {key(gate.scale): gate.map for gate in removed}
    wanted, chosen = {id(output) for output in graph.model.outputs}, []
    for call in reversed(graph.calls):
        if wanted.isdisjoint(map(id, call.outputs)):
            continue
        chosen.append(call)
        wanted |= {id(maps[key(call)])} if key(call) in maps else set(map(id, call.inputs))
    return chosen[::-1]


def scaled_inputs(layer: keras.Layer, factor: Array) -> list[Array]:
    """A convolution's weights with the factor (C,) of its input channels multiplied in."""
    kernel, *rest = layer.get_weights()
    return [_scaled(layer, kernel, factor.astype(kernel.dtype)), *rest]


def _scaled(layer: keras.Layer, kernel: Array, factor: Array) -> Array:
    if isinstance(layer, keras.layers.Conv2DTranspose):  # (h, w, filters, C)
        return kernel * factor
    if isinstance(layer, keras.layers.Conv2D) and layer.groups > 1:  # (h, w, C / groups, filters)
        by_group = factor.reshape(layer.groups, -1).T
        return kernel * by_group.repeat(layer.filters // layer.groups, axis=1)
    return kernel * factor[:, None]


def _gate(graph: Graph, call: Call) -> SqueezeExcitation | None:
    for place in (0, 1):
        x, factor = call.inputs[place], call.inputs[1 - place]
        if len(x.shape) != 4 or factor.shape[1:] != (1, 1, x.shape[-1]):
            continue
        calls = list(_computing(graph, factor, x))
        means = tuple(one for one in calls if _is_mean_of(one, x))
        if means and not any(one.is_input for one in calls):
            return SqueezeExcitation(call, place, tuple(calls), means)
    return None


def _computing(graph: Graph, end: KerasTensor, x: KerasTensor) -> Iterator[Call]:
    """The calls that compute `end`, back to the means of `x` or to the model's input."""
    pending, seen = [end], set()
    while pending:
        call = graph.maker(pending.pop())
        if key(call) in seen:
            continue
        seen.add(key(call))
        yield call
        if not _is_mean_of(call, x):
            pending += call.inputs


def _is_mean_of(call: Call, x: KerasTensor) -> bool:
    """Whether a call computes the mean of a map over height and width."""
    if not any(one is x for one in call.inputs):
        return False
    layer = call.operation
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return layer.data_format == "channels_last"
    if isinstance(layer, keras.layers.AveragePooling2D):
        return layer.data_format == "channels_last" and layer.pool_size == tuple(x.shape[1:3])
    axis = getattr(layer, "axis", None)
    return type(layer).__name__ == "Mean" and isinstance(axis, list | tuple) and sorted(axis) in SPATIAL


def _absorbers_after(graph: Graph, call: Call, factor: Array) -> list[tuple[Call, Array]] | None:
    layer = call.operation
    if is_plain(layer):
        return [(call, factor)] if len(graph.calls_with(layer)) == 1 else None
    if isinstance(layer, ChannelSlice):
        return absorbers(graph, call.outputs[0], factor[layer.start : layer.stop])
    return absorbers(graph, call.outputs[0], factor) if isinstance(layer, PASSES) else None


def _mean(gate: SqueezeExcitation, factor: Array) -> Array:
    value = np.asarray(factor, np.float64).reshape(-1, factor.shape[-1]).mean(axis=0)
    if not np.isfinite(value).all():
        raise EffkerasError(
            f"the gate of {gate.scale.operation.name!r} is not finite on these images; check the weights"
        )
    return value
