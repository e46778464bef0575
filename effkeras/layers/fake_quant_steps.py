"""Layers that int8 computes in several steps, each rounded to a range of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from effkeras.layers.fake_quant import UNIT, FakeQuant, RangeMode, rounded
from effkeras.layers.fusion import EPSILON, FastFusion

_HARD_SIGMOID_STEP = (0.0, 6.0)


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantSwish(keras.layers.Layer):
    """`x * sigmoid(x)`, the sigmoid in steps of 1/256 as LiteRT's LOGISTIC has it."""

    def call(self, x: Any) -> Any:
        """Any shape to the same."""
        return x * rounded(tf.sigmoid(x), UNIT)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantHardSigmoid(keras.layers.Layer):
    """`relu6(x + 3) / 6`, the sum rounded in 0..6."""

    def call(self, x: Any) -> Any:
        """Any shape to the same."""
        return rounded(tf.nn.relu6(x + 3.0), _HARD_SIGMOID_STEP) * (1 / 6)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantSum(keras.layers.Layer):
    """The sum of equal shapes, all partial sums but the last rounded.

    Args:
        mode: see `FakeQuant`.
        momentum: see `FakeQuant`.
        **kwargs: `name` and what else `keras.layers.Layer` takes.
    """

    def __init__(self, mode: RangeMode = "ema", momentum: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        self.mode = mode
        self.momentum = momentum

    def build(self, input_shape: Sequence[Any]) -> None:
        """Makes a range for each partial sum."""
        self.ranges = _ranges(self, len(input_shape) - 2)

    def call(self, inputs: Sequence[Any], training: bool = False) -> Any:
        """A list of (B, ...) to one of them."""
        return _summed(inputs, self.ranges, training)

    def compute_output_shape(self, input_shape: Sequence[Any]) -> Any:
        """That of each input."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """How ranges are found."""
        return {**super().get_config(), "mode": self.mode, "momentum": self.momentum}


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantFusion(FastFusion):
    """`FastFusion` with its products and all partial sums but the last rounded.

    Args:
        mode: see `FakeQuant`.
        momentum: see `FakeQuant`.
        **kwargs: `name` and what else `keras.layers.Layer` takes.
    """

    def __init__(self, mode: RangeMode = "ema", momentum: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        self.mode = mode
        self.momentum = momentum

    def build(self, input_shape: Sequence[Any]) -> None:
        """Makes one scalar per input, and a range for each product and partial sum."""
        super().build(input_shape)
        self.ranges = _ranges(self, 2 * len(input_shape) - 2)

    def call(self, inputs: Sequence[Any], training: bool = False) -> Any:
        """Fuses a list of (B, H, W, C) maps into one."""
        count = len(inputs)
        weights = [keras.ops.relu(keras.ops.convert_to_tensor(scalar)) for scalar in self.scalars]
        total = sum(weights[1:], weights[0]) + EPSILON
        products = [
            one(x * (weight / total), training=training)
            for x, weight, one in zip(inputs, weights, self.ranges[:count], strict=True)
        ]
        return _summed(products, self.ranges[count:], training)

    def get_config(self) -> dict[str, Any]:
        """How ranges are found."""
        return {**super().get_config(), "mode": self.mode, "momentum": self.momentum}


def _ranges(layer: FakeQuantSum | FakeQuantFusion, count: int) -> list[FakeQuant]:
    made = [FakeQuant(mode=layer.mode, momentum=layer.momentum, name=f"range{i}") for i in range(count)]
    for one in made:
        one.build(None)
    return made


def _summed(terms: Sequence[Any], ranges: Sequence[FakeQuant], training: bool) -> Any:
    total = terms[0]
    for term, one in zip(terms[1:-1], ranges, strict=True):
        total = one(total + term, training=training)
    return total + terms[-1]
