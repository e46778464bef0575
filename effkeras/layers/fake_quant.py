"""Fake quantization of activations: floats rounded to 8-bit levels, with straight-through gradients.

Rounding and gradients are TensorFlow's own (`fake_quant_with_min_max_vars`), as in
tensorflow-model-optimization. A range always contains zero exactly, because int8 needs it for padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from effkeras.layers.feature_maps import EPSILON, FastFusion

RangeMode = Literal["ema", "all", "last", "learned", "fixed"]
Extent = tuple[float, float]

# The fixed output ranges of LiteRT's int8 operators: steps of 1/256 and 1/128.
UNIT: Extent = (0.0, 255 / 256)
SIGNED_UNIT: Extent = (-1.0, 127 / 128)

# The initial range of tensorflow-model-optimization.
_START = 6.0
_SMALLEST = 1e-6


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuant(keras.layers.Layer):
    """Rounds activations to the 256 levels of a range.

    Maps that int8 needs in one range, such as the inputs of a concatenation, share one layer. Each is a
    `branch` with its own low and high end, and all are rounded in the range that spans them.

    Args:
        branches: the number of maps that share the range.
        mode: how ranges are found: "ema" averages the extremes of training batches, "all" takes the
            extremes over all batches, "last" those of the last batch, "learned" trains them by gradient,
            "fixed" leaves them unchanged.
        momentum: the share of the old range that the average keeps at each step.
        extent: the range of the mode "fixed"; in other modes the initial range.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        branches: int = 1,
        mode: RangeMode = "ema",
        momentum: float = 0.99,
        extent: Sequence[float] = (-_START, _START),
        **kwargs: Any,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.branches = branches
        self.mode = mode
        self.momentum = momentum
        self.extent = tuple(float(end) for end in extent)
        self.observing = False

    def build(self, input_shape: Any) -> None:
        """Creates a low and a high end per branch."""
        self.low, self.high = (
            self.add_weight(
                name=name,
                shape=(self.branches,),
                initializer=keras.initializers.Constant(end),
                trainable=self.mode == "learned",
            )
            for name, end in zip(("low", "high"), self.extent, strict=True)
        )

    def call(self, x: Any, branch: int = 0, observe: bool = True, training: bool = False) -> Any:
        """Rounds a tensor of any shape; without `observe` the range stays unchanged."""
        if self.observing:
            return self._passed(x, branch if observe else None)
        if training and observe:
            self._update(x, branch)
        return tf.quantization.fake_quant_with_min_max_vars(x, *self._ends())

    def limits(self) -> Extent:
        """The current range."""
        low, high = (float(keras.ops.convert_to_numpy(end)) for end in self._ends())
        return low, high

    def start(self, low: float, high: float) -> None:
        """Sets the range of all branches."""
        self.low.assign([low] * self.branches)
        self.high.assign([high] * self.branches)

    def compute_output_shape(self, input_shape: Any, **_: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer."""
        own = {"branches": self.branches, "mode": self.mode, "momentum": self.momentum}
        return {**super().get_config(), **own, "extent": list(self.extent)}

    def _ends(self) -> tuple[tf.Tensor, tf.Tensor]:
        low = _bounded(tf.reduce_min(self.low.value), tf.minimum)
        high = _bounded(tf.reduce_max(self.high.value), tf.maximum)
        return low, tf.maximum(high, low + _SMALLEST)

    def _passed(self, x: Any, branch: int | None) -> Any:
        """The unchanged values; the range widens to contain them, and a fixed range still clips."""
        if self.mode == "fixed":
            return tf.clip_by_value(x, *self.extent)
        if branch is not None:
            self._widen(x, branch)
        return x

    def _update(self, x: Any, branch: int) -> None:
        if self.mode == "ema":
            self._move(x, branch, 1.0 - self.momentum)
        elif self.mode == "last":
            self._move(x, branch, 1.0)
        elif self.mode == "all":
            self._widen(x, branch)

    def _move(self, x: Any, branch: int, step: float) -> None:
        """Moves the ends of a branch towards the batch's extremes."""
        share = step * _one_hot(branch, self.branches)
        for end, seen in zip((self.low, self.high), _extremes(x), strict=True):
            end.assign(end.value - share * (end.value - seen))

    def _widen(self, x: Any, branch: int) -> None:
        chosen = _one_hot(branch, self.branches) > 0
        low, high = _extremes(x)
        self.low.assign(tf.where(chosen, _lower(self.low.value, low), self.low.value))
        self.high.assign(tf.where(chosen, -_lower(-self.high.value, -high), self.high.value))


def fake_quants(model: keras.Model) -> Iterator[FakeQuant]:
    """All FakeQuant layers of a model, including those inside other layers."""
    for layer in model.layers:
        yield from ranges_of(layer)


def ranges_of(layer: keras.Layer) -> Iterator[FakeQuant]:
    """The layer itself if it is a FakeQuant, and the FakeQuant layers inside it."""
    inside = getattr(layer, "ranges", None)
    for one in (layer, *(inside if isinstance(inside, list) else ())):
        if isinstance(one, FakeQuant):
            yield one


def is_fake_quantized(model: keras.Model) -> bool:
    """Whether a model was prepared for quantization-aware training."""
    return next(fake_quants(model), None) is not None


def rounded(x: Any, extent: Extent) -> Any:
    """Values rounded to the 256 levels of the given range."""
    return tf.quantization.fake_quant_with_min_max_args(x, *extent)


def rounded_rows(rows: Any, largest: Any) -> Any:
    """Weights (n, channels) rounded to -127..127 steps of `largest / 127`; `largest` is per channel."""
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        rows, -largest, largest, num_bits=8, narrow_range=True
    )


def _extremes(x: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The smallest and largest value, zero included."""
    x = tf.stop_gradient(x)
    return tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)


def _lower(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """The smaller of two values; NaN or infinity gives NaN, so that checks find it."""
    return tf.where(tf.math.is_finite(one + other), tf.minimum(one, other), np.nan)


def _bounded(end: tf.Tensor, towards: Any) -> tf.Tensor:
    """Keeps an end on its side of zero; the gradient passes through, so that the end can return."""
    return end + tf.stop_gradient(towards(end, 0.0) - end)


def _one_hot(branch: int, count: int) -> np.ndarray:
    return (np.arange(count) == branch).astype(np.float32)


_HARD_SIGMOID_STEP = (0.0, 6.0)


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantSwish(keras.layers.Layer):
    """`x * sigmoid(x)` with the sigmoid in steps of 1/256, like LiteRT's LOGISTIC."""

    def call(self, x: Any) -> Any:
        """The same shape."""
        return x * rounded(tf.sigmoid(x), UNIT)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantHardSigmoid(keras.layers.Layer):
    """`relu6(x + 3) / 6` with the `relu6` rounded in 0..6."""

    def call(self, x: Any) -> Any:
        """The same shape."""
        return rounded(tf.nn.relu6(x + 3.0), _HARD_SIGMOID_STEP) * (1 / 6)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantSum(keras.layers.Layer):
    """The sum of equally shaped inputs; all partial sums but the last are rounded.

    Args:
        mode: see `FakeQuant`.
        momentum: see `FakeQuant`.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.
    """

    def __init__(self, mode: RangeMode = "ema", momentum: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        self.mode = mode
        self.momentum = momentum

    def build(self, input_shape: Sequence[Any]) -> None:
        """Creates a range for each partial sum."""
        self.ranges = _ranges(self, len(input_shape) - 2)

    def call(self, inputs: Sequence[Any], training: bool = False) -> Any:
        """Adds a list of (B, ...) tensors of one shape."""
        return _summed(inputs, self.ranges, training)

    def compute_output_shape(self, input_shape: Sequence[Any]) -> Any:
        """The shape of each input."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer."""
        return {**super().get_config(), "mode": self.mode, "momentum": self.momentum}


@keras.saving.register_keras_serializable(package="effkeras")
class FakeQuantFusion(FastFusion):
    """`FastFusion` with rounded products, and all partial sums but the last rounded.

    Args:
        mode: see `FakeQuant`.
        momentum: see `FakeQuant`.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.
    """

    def __init__(self, mode: RangeMode = "ema", momentum: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        self.mode = mode
        self.momentum = momentum

    def build(self, input_shape: Sequence[Any]) -> None:
        """Creates one scalar per input, and a range for each product and partial sum."""
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
        """The arguments of the layer."""
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
