"""Layers on feature maps: weighted fusion, channel slices, nearest-neighbour upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

EPSILON = 1e-4


@keras.saving.register_keras_serializable(package="effkeras")
class FastFusion(keras.layers.Layer):
    """Sum of equally shaped maps weighted by `relu(w_i) / (sum(relu(w)) + 1e-4)`.

    The weights are scalars `w0`, `w1`, ... with initial value 1.
    """

    def build(self, input_shape: Sequence[Any]) -> None:
        """Creates one scalar per input."""
        self.scalars = [
            self.add_weight(name=f"w{index}", shape=(), initializer="ones")
            for index in range(len(input_shape))
        ]

    def call(self, inputs: Sequence[Any]) -> Any:
        """Fuses a list of (B, H, W, C) maps into one."""
        weights = [keras.ops.relu(keras.ops.cast(scalar, self.compute_dtype)) for scalar in self.scalars]
        total = sum(weights[1:], weights[0]) + EPSILON
        fused = inputs[0] * (weights[0] / total)
        for x, weight in zip(inputs[1:], weights[1:], strict=True):
            fused = fused + x * (weight / total)
        return fused

    def compute_output_shape(self, input_shape: Sequence[Any]) -> Any:
        """The shape of each input."""
        return tuple(input_shape[0])


@keras.saving.register_keras_serializable(package="effkeras")
class ChannelSlice(keras.layers.Layer):
    """The channels `start` to `stop` of a map.

    Args:
        start: first channel.
        stop: the channel after the last.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.
    """

    def __init__(self, start: int, stop: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.start = start
        self.stop = stop

    def call(self, x: Any) -> Any:
        """(B, H, W, C) to (B, H, W, stop - start)."""
        return x[..., self.start : self.stop]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(B, H, W, stop - start)."""
        return (*input_shape[:-1], self.stop - self.start)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer."""
        return {**super().get_config(), "start": self.start, "stop": self.stop}


@keras.saving.register_keras_serializable(package="effkeras")
class NearestUpsample(keras.layers.Layer):
    """Nearest-neighbour upsampling to `height` x `width`, each twice the input's or one less.

    Output pixel i is input pixel i // 2, also at odd sizes: the rule of the published checkpoints (nearest,
    no half-pixel centres), from which `keras.layers.Resizing` differs. Implemented with concatenation and
    reshape, because XNNPACK does not run RESIZE_NEAREST_NEIGHBOR, and Keras's UpSampling2D becomes a 5-D tile
    operator that Edge TPU and GPU reject.

    Args:
        height: rows of the output.
        width: columns of the output.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.
    """

    def __init__(self, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.height = height
        self.width = width

    def build(self, input_shape: Any) -> None:
        """Checks that the output is twice the input or one pixel less."""
        rows, columns = input_shape[1:3]
        for target, source in ((self.height, rows), (self.width, columns)):
            if target not in (2 * source, 2 * source - 1):
                raise ValueError(f"{self.name}: cannot enlarge {source} pixels to {target}, only to twice")

    def call(self, x: Any) -> Any:
        """(B, h, w, C) to (B, height, width, C)."""
        rows, columns, channels = x.shape[1:]
        wide = keras.ops.concatenate([x, x], axis=-1)
        wide = keras.ops.reshape(wide, (-1, rows, 1, 2 * columns * channels))
        tall = keras.ops.concatenate([wide, wide], axis=2)
        y = keras.ops.reshape(tall, (-1, 2 * rows, 2 * columns, channels))
        if (2 * rows, 2 * columns) == (self.height, self.width):
            return y  # an empty crop would stay in the artifact as STRIDED_SLICE
        return y[:, : self.height, : self.width, :]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(B, height, width, C)."""
        return (input_shape[0], self.height, self.width, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer."""
        return {**super().get_config(), "height": self.height, "width": self.width}
