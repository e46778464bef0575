"""The vocabulary in Keras layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from effkeras.definition import BatchNormSpec
from effkeras.graph.vocabulary import Conv, Vocabulary
from effkeras.layers import FastFusion, NearestUpsample

KerasTensor = Any


def _conv_start() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _dense_start() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")


@dataclass(frozen=True, slots=True)
class KerasNet(Vocabulary[KerasTensor]):
    """Every operation is one Keras layer, named as the graph function says.

    `dtype` is a Keras dtype policy; the outputs are float32 under any policy.
    """

    dtype: str = "float32"

    def size(self, x: KerasTensor) -> tuple[int, int]:
        return x.shape[1], x.shape[2]

    def channels(self, x: KerasTensor) -> int:
        return x.shape[3]

    def conv(self, x: KerasTensor, name: str, conv: Conv) -> KerasTensor:
        return keras.layers.Conv2D(
            conv.filters,
            conv.kernel,
            strides=conv.stride,
            padding="same",
            use_bias=conv.bias,
            kernel_initializer=_conv_start(),
            dtype=self.dtype,
            name=name,
        )(x)

    def depthwise(self, x: KerasTensor, name: str, kernel: int, stride: int) -> KerasTensor:
        return keras.layers.DepthwiseConv2D(
            kernel,
            strides=stride,
            padding="same",
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
            padding="same",
            use_bias=conv.bias,
            depthwise_initializer=start,
            pointwise_initializer=keras.initializers.VarianceScaling(),
            bias_initializer=keras.initializers.Constant(conv.bias_start),
            dtype=self.dtype,
            name=name,
        )

    def batch_norm(self, x: KerasTensor, name: str, spec: BatchNormSpec) -> KerasTensor:
        return keras.layers.BatchNormalization(
            momentum=spec.momentum, epsilon=spec.epsilon, dtype=self.dtype, name=name
        )(x)

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

    def max_pool(self, x: KerasTensor, name: str) -> KerasTensor:
        return keras.layers.MaxPooling2D(3, 2, padding="same", dtype=self.dtype, name=name)(x)

    def upsample(self, x: KerasTensor, name: str, size: tuple[int, int]) -> KerasTensor:
        return NearestUpsample(*size, dtype=self.dtype, name=name)(x)

    def dropout(self, x: KerasTensor, name: str, rate: float, whole_sample: bool) -> KerasTensor:
        if rate == 0:
            return x
        shape = (None, 1, 1, 1) if whole_sample else None
        return keras.layers.Dropout(rate, noise_shape=shape, dtype=self.dtype, name=name)(x)

    def flatten(self, x: KerasTensor, name: str) -> KerasTensor:
        return keras.layers.Flatten(dtype=self.dtype, name=name)(x)

    def dense(self, x: KerasTensor, name: str, units: int) -> KerasTensor:
        layer = keras.layers.Dense(units, kernel_initializer=_dense_start(), dtype=self.dtype, name=name)
        return layer(x)

    def rows(self, xs: Sequence[KerasTensor], name: str, width: int) -> KerasTensor:
        flat = [
            keras.layers.Reshape((-1, width), dtype=self.dtype, name=f"{name}_rows{index}")(x)
            for index, x in enumerate(xs)
        ]
        return keras.layers.Concatenate(axis=1, dtype="float32", name=name)(flat)
