"""Converts a fake-quantized model to int8 with its own ranges and kernels, without images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from effkeras.graph.rewrite import Graph, StandIn, key, rewrite, with_weights
from effkeras.layers import Normalize
from effkeras.layers.fake_quant_kernels import OWN, FakeQuantKernel
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.fake_quants import Stripped, relus_as_requantization, stored_kernels, strip_fake_quants
from quantize.post_training.backends import Rules, quantize_with_ai_edge
from quantize.post_training.ranges import PIXELS, Ranges, as_range

Array = np.ndarray
UNTRAINED = (
    "it has no trained range: it comes before the network, int8 does not support it, or `skip` names it"
)


@dataclass(frozen=True, eq=False, slots=True)
class Trained:
    """The conversion of a fake-quantized model.

    `flatbuffer` is the float conversion, whose kernels are already rounded. `ranges` are the ranges of its
    activations, and of kernels whose range is not that of their largest weights. `in_float` are the names of
    the first outputs of operators that compute in float.
    """

    flatbuffer: bytes
    ranges: Ranges
    in_float: tuple[str, ...]


def trained_parts(model: keras.Model, *, skip_normalization: bool, pixels: bool) -> Trained:
    """The float conversion of a fake-quantized model, and its ranges.

    Args:
        model: the model after quantization-aware training.
        skip_normalization: whether to leave out the first layer, `Normalize`: the input is then normalised.
        pixels: whether the input takes 8-bit pixels. A normalisation that is not left out then becomes an
            int8 1x1 depthwise convolution, which is exact.

    Raises:
        EffkerasError: the model cannot be converted.
    """
    graph = Graph.of(model)
    made = _Plain()
    plan = {
        key(call): made.stand_in(call) for call in graph.calls if isinstance(call.operation, FakeQuantKernel)
    }
    if pixels and not skip_normalization:
        plan |= {
            key(c): _scaled_pixels(c.operation) for c in graph.calls if isinstance(c.operation, Normalize)
        }
    converted = to_flatbuffer(rewrite(graph, plan), skip_normalization=skip_normalization)
    stripped = strip_fake_quants(converted, PIXELS if pixels and not skip_normalization else None)
    ranges = {name: as_range(*one) for name, one in stripped.ranges.items()}
    kernels, left = _kernels(stripped, made)
    return Trained(stripped.flatbuffer, {**ranges, **kernels}, (*stripped.in_float, *left))


def quantized_as_trained(trained: Trained, rules: Rules) -> bytes:
    """The int8 .tflite of a fake-quantized model."""
    rules = replace(rules, kept=(*rules.kept, *trained.in_float))
    return relus_as_requantization(quantize_with_ai_edge(trained.flatbuffer, trained.ranges, rules))


class _Plain:
    """Makes plain layers that compute the same as fake-quantized ones, each once, with their kernels."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], StandIn] = {}
        self.special: list[_Special] = []

    def stand_in(self, call: Any) -> StandIn:
        layer, branch = call.operation, call.arguments.kwargs.get("branch", 0)
        if (id(layer), branch) not in self._made:
            self._made[id(layer), branch] = self._make(layer, branch)
        return self._made[id(layer), branch]

    def _make(self, layer: FakeQuantKernel, branch: int) -> StandIn:
        kernel = keras.ops.convert_to_numpy(layer.folded_kernel(branch))
        if layer.clusters or not layer.quantized:
            ends = keras.ops.convert_to_numpy(layer.largest(branch)) if layer.quantized else None
            self.special.append(_Special(_stored(layer, kernel), ends))
        weights = [kernel, *([keras.ops.convert_to_numpy(layer.biases[branch])] if layer.biased else [])]
        return with_weights(_plain(layer, branch), *weights)


@dataclass(frozen=True, eq=False, slots=True)
class _Special:
    """A kernel as the artifact stores it, and its channels' largest magnitudes; None leaves it in float."""

    kernel: Array
    ends: Array | None


def _plain(layer: FakeQuantKernel, branch: int) -> keras.Layer:
    config = layer.get_config()
    name = layer.branches[branch] if len(layer.branches) > 1 else config["name"]
    kept = {one: value for one, value in config.items() if one not in OWN}
    return layer.plain.from_config({**kept, "name": name, "use_bias": layer.biased})


def _stored(layer: FakeQuantKernel, kernel: Array) -> Array:
    """A kernel with its axes in LiteRT's order."""
    if layer.plain is keras.layers.DepthwiseConv2D:
        return kernel.reshape(1, *kernel.shape[:2], -1)
    if layer.plain is keras.layers.Conv2DTranspose:
        return kernel.transpose(2, 0, 1, 3)
    return np.moveaxis(kernel, -1, 0)


def _kernels(stripped: Stripped, made: _Plain) -> tuple[Ranges, list[str]]:
    """The ranges of special kernels by name, and the names of operators whose kernels stay in float."""
    ranges: Ranges = {}
    left = []
    for one in stored_kernels(stripped.flatbuffer) if made.special else ():
        special = next((s for s in made.special if np.array_equal(s.kernel, one.values)), None)
        if special is None:
            continue
        if special.ends is None:
            left.append(one.operator)
            continue
        shape = [1] * one.values.ndim
        shape[-1 if one.is_depthwise else 0] = special.ends.size
        ranges[one.name] = {"min": -special.ends.reshape(shape), "max": special.ends.reshape(shape)}
    return ranges, left


def _scaled_pixels(layer: Normalize) -> StandIn:
    """A normalisation as a 1x1 depthwise convolution: its kernel has one value per channel, exact in int8."""
    conv = keras.layers.DepthwiseConv2D(1, name=layer.name)
    mean, std = np.array(layer.mean), np.array(layer.std)
    return with_weights(conv, (1 / std)[None, None, :, None], -mean / std)
