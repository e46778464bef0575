"""Describes a Keras 3 classifier layer by layer, so that a process with Keras 2 can build it.

tensorflow-model-optimization only supports Keras 2 models. Both Keras versions share the names of layers,
most of their config entries, and the order of their weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import Call
from effkeras.graph.rewrite import Graph
from effkeras.layers import DropBlock, DropPath, Normalize
from effkeras.support.errors import EffkerasError
from quantize.steps.step import TFMOT

# Config entries that only concern initialization, or that Keras 2 lacks.
LEFT_OUT = ("dtype", "trainable", "synchronized", "renorm")
# Layers that only act in training, and are not needed in a short one.
PASSED = (DropPath, DropBlock)

Array = np.ndarray
Table = dict[str, Any]


def described(graph: Graph) -> Table:
    """The graph as a plain table.

    `layers` maps names to the class and config of each layer; `calls` lists the layer and the numbers of the
    inputs of each call: 0 is the model's input, n the output of call n. `output` is the number of the model's
    output.

    Raises EffkerasError for a layer that Keras 2 lacks.
    """
    numbers = {id(graph.model.inputs[0]): 0}
    calls: list[Table] = []
    layers: dict[str, Table] = {}
    for call in graph.calls:
        if call.is_input:
            continue
        if isinstance(call.operation, PASSED):
            numbers[id(call.outputs[0])] = numbers[id(call.inputs[0])]
            continue
        layers.setdefault(call.operation.name, _layer(call))
        calls.append({"layer": call.operation.name, "inputs": [numbers[id(one)] for one in call.inputs]})
        numbers[id(call.outputs[0])] = len(calls)
    output = numbers[id(graph.model.outputs[0])]
    return {"input": graph.model.inputs[0].shape[1:], "layers": layers, "calls": calls, "output": output}


def weights_of(graph: Graph) -> dict[str, Array]:
    """All weights in float32, each named `layer/number`, in the order of both Keras versions."""
    layers = {call.operation.name: call.operation for call in graph.calls if not call.is_input}
    return {
        f"{name}/{number}": value.astype(np.float32)
        for name, layer in layers.items()
        for number, value in enumerate(_weights(layer))
    }


def with_weights_from(model: keras.Model, found: Mapping[str, Array]) -> None:
    """Sets a model's weights to arrays named as in `weights_of`.

    Raises EffkerasError if one is missing, has another shape, or is not finite; then the model is unchanged.
    """
    layers = [layer for layer in model.layers if layer.weights and not isinstance(layer, Normalize)]
    values = {layer.name: _checked(layer, found) for layer in layers}
    for layer in layers:
        layer.set_weights(values[layer.name])


def _checked(layer: keras.Layer, found: Mapping[str, Array]) -> list[Array]:
    names = [f"{layer.name}/{number}" for number in range(len(layer.weights))]
    if any(name not in found for name in names):
        raise EffkerasError(f"{TFMOT} gave back no weights for {layer.name}")
    values = [found[name] for name in names]
    for value, weight in zip(values, layer.weights, strict=True):
        if value.shape != tuple(weight.shape):
            raise EffkerasError(f"{TFMOT} gave back {layer.name} in another shape: {value.shape}")
        if not np.isfinite(value).all():
            raise EffkerasError(f"{TFMOT}: the training diverged at {layer.name}; lower the learning rate")
    return values


def _layer(call: Call) -> Table:
    layer = call.operation
    if isinstance(layer, Normalize):
        return _class("DepthwiseConv2D", {"name": layer.name, "kernel_size": 1, "trainable": False})
    if not isinstance(layer, keras.Layer) or not type(layer).__module__.startswith("keras."):
        raise EffkerasError(f"{TFMOT} knows no layer {type(layer).__name__} ({layer.name})")
    config = dict(_plain(layer.get_config().items()))
    if type(layer) is keras.layers.Activation and config["activation"] == "relu6":
        return _class("ReLU", {"name": layer.name, "max_value": 6.0})
    return _class(type(layer).__name__, config)


def _class(name: str, config: Table) -> Table:
    return {"class": name, "config": config}


def _plain(settings: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    """The config entries that are numbers, texts or lists; Keras objects (initializers, constraints) are not.

    None is left out too: it is Keras 2's default, or an entry that Keras 2 lacks.
    """
    for name, value in settings:
        if name not in LEFT_OUT and value is not None and not isinstance(value, dict):
            yield name, "swish" if value == "silu" else value


def _weights(layer: Any) -> list[Array]:
    if isinstance(layer, Normalize):
        scale = 1 / np.array(layer.std)
        return [scale[None, None, :, None], -np.array(layer.mean) * scale]
    return layer.get_weights() if isinstance(layer, keras.Layer) else []
