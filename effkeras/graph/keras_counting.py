"""Counts weights and multiply-adds of functional Keras models by layer, as `Counts` defines them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from effkeras.graph.functional import (
    Call,
    CopyRules,
    calls_of,
    copy_onto,
    deep_graphs,
    is_functional,
    whole_model,
)
from effkeras.graph.keras_applications import feature_maps
from effkeras.graph.vocabulary import ACTIVATION_OPERATIONS, Application, Counts
from effkeras.layers import FastFusion
from effkeras.layers.fake_quant_kernels import network_weights
from effkeras.support.errors import EffkerasError

_SLIDING = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)
_POOLING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


@dataclass(frozen=True, slots=True)
class CountedNetwork:
    """The cost of a network of keras.applications.

    `layers` holds the channels of each layer with weights, `shapes` the shapes of weights by layer and weight
    name, `maps` the (H, W, C) of the taps, each with its channels without `widths`; `others` are the
    operations other than multiply-adds.
    """

    macs: int
    others: int
    layers: dict[str, int]
    shapes: dict[tuple[str, str], tuple[int, ...]]
    maps: list[tuple[tuple[int, int, int], int]]


def count_layers(model: keras.Model) -> Counts:
    """Weights, multiply-adds and operations for one image, of any functional model.

    Multiply-adds are those of Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D and Dense, including
    groups, repeated calls and nested models. Shared weights count once; those that only fake quantization
    has, such as ranges and masks, do not.

    Raises EffkerasError when the model is not functional, its input size is not fixed, or a layer has a
    kernel but is of another type.
    """
    calls = calls_of(_flat(model))
    macs = sum(map(_macs, calls))
    others = sum(map(_others, calls))
    weights = network_weights(model)
    trainable = _size(weight for weight in weights if weight.trainable)
    return Counts(trainable, _size(weights), macs, 2 * macs + others)


def count_application(
    network: Application, size: tuple[int, int], widths: Mapping[str, int]
) -> CountedNetwork:
    """The cost of a network of keras.applications up to its last tap, for images of `size` pixels.

    `widths` gives the layers whose width differs from Keras's.
    """
    with deep_graphs(), tf.Graph().as_default():  # weights without values
        x = keras.Input((*size, 3))
        maps = feature_maps(x, network, widths)
        model = keras.Model(x, [one for one, _ in maps])
    weighty = [layer for layer in model.layers if layer.weights]
    return CountedNetwork(
        macs=sum(map(_macs, calls_of(model))),
        others=sum(map(_others, calls_of(model))),
        layers={layer.name: layer.output.shape[-1] for layer in weighty},
        shapes={(layer.name, one.name): tuple(one.shape) for layer in weighty for one in layer.weights},
        maps=[(tuple(one.shape[1:]), nominal) for one, nominal in maps],
    )


def _flat(model: keras.Model) -> keras.Model:
    """The model itself, or, if it has nested models, a flat copy without weight values."""
    part = whole_model(model)
    if None in model.inputs[0].shape[1:]:
        raise EffkerasError(f"the input size of {model.name!r} is open; build it with a fixed one to count")
    if not any(is_functional(layer) for layer in model.layers):
        return model
    with deep_graphs(), tf.Graph().as_default():
        x = keras.Input(model.inputs[0].shape[1:])
        return keras.Model(x, copy_onto(x, part, CopyRules()))


def _macs(call: Call) -> int:
    layer = call.operation
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return _positions(call.inputs[0]) * _size([layer.kernel])
    if isinstance(layer, _SLIDING):
        return _positions(call.outputs[0]) * _size(_kernels(layer))
    if _kernels(layer):
        raise EffkerasError(
            f"the multiply-adds of {layer.name!r} ({type(layer).__name__}) cannot be counted: "
            "known are 2-D convolutions and Dense"
        )
    return 0


def _others(call: Call) -> int:
    """Operations other than multiply-adds; see `Counts` for the list."""
    layer, inputs, values = call.operation, call.inputs, _values(call.outputs[0])
    per_value = ACTIVATION_OPERATIONS.get(_activation(layer), 0) + bool(getattr(layer, "use_bias", False))
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return _values(inputs[0])
    if isinstance(layer, _POOLING):
        per_value = math.prod(layer.pool_size)
    elif type(layer).__name__ in ("Add", "Multiply"):  # layers, or the operations + and *
        per_value = len(inputs) - 1
    elif isinstance(layer, FastFusion):
        per_value = 3 * len(inputs) - 1
    return per_value * values


def _activation(layer: Any) -> str:
    return getattr(getattr(layer, "activation", None), "__name__", "")


def _kernels(layer: Any) -> list[Any]:
    return [weight for weight in getattr(layer, "weights", ()) if "kernel" in weight.name]


def _positions(x: Any) -> int:
    return math.prod(x.shape[1:-1])


def _values(x: Any) -> int:
    return math.prod(x.shape[1:])


def _size(weights: Iterable[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)
