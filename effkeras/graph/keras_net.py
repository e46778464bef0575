"""Builds Keras models: implements the vocabulary with Keras layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from effkeras.definitions.networks import BatchNormSpec
from effkeras.graph.functional import CopyRules, Part, copy_onto
from effkeras.graph.keras_applications import feature_maps
from effkeras.graph.vocabulary import Application, Conv, Depthwise, Pool, Vocabulary, concatenated, symmetric
from effkeras.layers import ChannelSlice, DropBlock, DropPath, FastFusion, NearestUpsample
from effkeras.layers.batch_norm import BatchNormalization
from effkeras.support.errors import EffkerasError

NOT_ALONE = (
    "the backbone of this definition is a custom Keras model, which only the .keras file holds: "
    "load that with effkeras.load"
)
EXTERNAL = "backbone_"

KerasTensor = Any
Margins = tuple[tuple[int, int], tuple[int, int]]


def external_name(path: tuple[str, ...]) -> str:
    """The name of a custom model's layer inside a detector; no other layer has this prefix."""
    return EXTERNAL + "_".join(path).removeprefix(EXTERNAL)


def _conv_start() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _dense_start() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")


@dataclass(frozen=True, slots=True)
class KerasNet(Vocabulary[KerasTensor]):
    """Implements each operation as one Keras layer with the name that the graph function gives.

    `dtype` is a Keras dtype policy; the outputs are float32 under any policy. `given` is the part of a custom
    Keras model that implements an external network.
    """

    dtype: str = "float32"
    given: Part | None = None

    def size(self, x: KerasTensor) -> tuple[int, int]:
        return x.shape[1], x.shape[2]

    def channels(self, x: KerasTensor) -> int:
        return x.shape[-1]

    def conv(self, x: KerasTensor, name: str, conv: Conv) -> KerasTensor:
        x, padding = self._padded(x, name, conv)
        return keras.layers.Conv2D(
            conv.filters,
            conv.kernel,
            strides=conv.stride,
            padding=padding,
            dilation_rate=conv.dilation,
            use_bias=conv.bias,
            kernel_initializer=_conv_start(),
            dtype=self.dtype,
            name=name,
        )(x)

    def depthwise(self, x: KerasTensor, name: str, depthwise: Depthwise) -> KerasTensor:
        x, padding = self._padded(x, name, depthwise)
        return keras.layers.DepthwiseConv2D(
            depthwise.kernel,
            strides=depthwise.stride,
            padding=padding,
            use_bias=False,
            depthwise_initializer=_conv_start(),
            dtype=self.dtype,
            name=name,
        )(x)

    def separable(self, name: str, conv: Conv) -> Callable[[KerasTensor], KerasTensor]:
        start = keras.initializers.VarianceScaling()
        return keras.layers.SeparableConv2D(
            conv.filters,
            conv.kernel,
            strides=conv.stride,
            padding="same",
            use_bias=conv.bias,
            depthwise_initializer=start,
            pointwise_initializer=keras.initializers.VarianceScaling(),
            bias_initializer=keras.initializers.Constant(conv.bias_start),
            dtype=self.dtype,
            name=name,
        )

    def batch_norm(self, x: KerasTensor, name: str, spec: BatchNormSpec) -> KerasTensor:
        return BatchNormalization(momentum=spec.momentum, epsilon=spec.epsilon, dtype=self.dtype, name=name)(
            x
        )

    def activation(self, x: KerasTensor, name: str, kind: str) -> KerasTensor:
        return keras.layers.Activation(kind, dtype=self.dtype, name=name)(x)

    def add(self, xs: Sequence[KerasTensor], name: str) -> KerasTensor:
        return keras.layers.Add(dtype=self.dtype, name=name)(list(xs))

    def fuse(self, xs: Sequence[KerasTensor], name: str) -> KerasTensor:
        return FastFusion(dtype=self.dtype, name=name)(list(xs))

    def multiply(self, x: KerasTensor, gate: KerasTensor, name: str) -> KerasTensor:
        return keras.layers.Multiply(dtype=self.dtype, name=name)([x, gate])

    def mean(self, x: KerasTensor, name: str) -> KerasTensor:
        return keras.layers.GlobalAveragePooling2D(keepdims=True, dtype=self.dtype, name=name)(x)

    def pool(self, x: KerasTensor, name: str, pool: Pool) -> KerasTensor:
        kinds = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
        padding = pool.padding
        if padding == "zero":
            x, padding = self._zeros(x, name, _same_margins(self.size(x), pool)), "valid"
        layer = kinds[pool.kind](pool.window, pool.stride, padding=padding, dtype=self.dtype, name=name)
        return layer(x)

    def shift(self, x: KerasTensor, name: str) -> KerasTensor:
        x = self._zeros(x, name, ((0, 1), (0, 1)))
        return keras.layers.Cropping2D(((1, 0), (1, 0)), dtype=self.dtype, name=name)(x)

    def concat(self, xs: Sequence[KerasTensor], name: str) -> KerasTensor:
        return keras.layers.Concatenate(dtype=self.dtype, name=name)(list(xs))

    def take(self, x: KerasTensor, name: str, start: int, stop: int) -> KerasTensor:
        return ChannelSlice(start, stop, dtype=self.dtype, name=name)(x)

    def upsample(self, x: KerasTensor, name: str, size: tuple[int, int]) -> KerasTensor:
        return NearestUpsample(*size, dtype=self.dtype, name=name)(x)

    def dropout(self, x: KerasTensor, name: str, rate: float, whole_sample: bool) -> KerasTensor:
        if rate == 0:
            return x
        shape = (None, 1, 1, 1) if whole_sample else None
        return keras.layers.Dropout(rate, noise_shape=shape, dtype=self.dtype, name=name)(x)

    def drop_path(self, x: KerasTensor, name: str, keep: float) -> KerasTensor:
        return x if keep == 1 else DropPath(keep, dtype=self.dtype, name=name)(x)

    def drop_block(self, x: KerasTensor, name: str, keep: float, size: int) -> KerasTensor:
        return x if keep == 1 else DropBlock(keep, size, dtype=self.dtype, name=name)(x)

    def flatten(self, x: KerasTensor, name: str) -> KerasTensor:
        return keras.layers.Flatten(dtype=self.dtype, name=name)(x)

    def dense(self, x: KerasTensor, name: str, units: int) -> KerasTensor:
        layer = keras.layers.Dense(units, kernel_initializer=_dense_start(), dtype=self.dtype, name=name)
        return layer(x)

    def transposed(self, x: KerasTensor, name: str, conv: Conv) -> KerasTensor:
        return keras.layers.Conv2DTranspose(
            conv.filters,
            conv.kernel,
            strides=conv.stride,
            padding="same",
            use_bias=conv.bias,
            bias_initializer=keras.initializers.Constant(conv.bias_start),
            dtype=self.dtype,
            name=name,
        )(x)

    def crop(self, x: KerasTensor, name: str, size: tuple[int, int]) -> KerasTensor:
        rows, columns = self.size(x)
        if (rows, columns) == size:
            return x  # an empty crop would stay in the artifact
        edges = ((0, rows - size[0]), (0, columns - size[1]))
        return keras.layers.Cropping2D(edges, dtype=self.dtype, name=name)(x)

    def rows(self, xs: Sequence[KerasTensor], name: str, width: int) -> KerasTensor:
        flat = [
            keras.layers.Reshape((-1, width), dtype=self.dtype, name=f"{name}_rows{index}")(x)
            for index, x in enumerate(xs)
        ]

        def concat(some: Sequence[KerasTensor], name: str) -> KerasTensor:
            return keras.layers.Concatenate(axis=1, dtype="float32", name=name)(some)

        return concatenated(flat, name, concat)

    def layer_norm(self, x: KerasTensor, name: str, epsilon: float) -> KerasTensor:
        return keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype, name=name)(x)

    def application(
        self, x: KerasTensor, network: Application, widths: Mapping[str, int]
    ) -> list[tuple[KerasTensor, int]]:
        return feature_maps(x, network, widths, self.dtype)

    def external(self, x: KerasTensor, taps: tuple[str, ...]) -> list[KerasTensor]:
        if self.given is None:
            raise EffkerasError(NOT_ALONE)
        return copy_onto(x, self.given, CopyRules(self.dtype, external_name, weights=True))

    def _padded(self, x: KerasTensor, name: str, window: Conv | Depthwise) -> tuple[KerasTensor, str]:
        if window.padding != "symmetric" or window.stride == 1:
            return x, "same" if window.padding == "symmetric" else window.padding
        return self._zeros(x, name, symmetric(window.kernel)), "valid"

    def _zeros(self, x: KerasTensor, name: str, margins: Margins) -> KerasTensor:
        return keras.layers.ZeroPadding2D(margins, dtype=self.dtype, name=f"{name}_pad")(x)


def _same_margins(size: tuple[int, int], pool: Pool) -> Margins:
    """The padding that SAME adds, before and after each axis."""

    def margin(length: int) -> tuple[int, int]:
        total = max((-(-length // pool.stride) - 1) * pool.stride + pool.window - length, 0)
        return total // 2, total - total // 2

    return margin(size[0]), margin(size[1])
