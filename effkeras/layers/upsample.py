"""Nearest-neighbour enlargement that every LiteRT delegate takes."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="effkeras")
class NearestUpsample(keras.layers.Layer):
    """Repeats rows and columns up to `height` x `width`, each twice the input's or one less.

    Output pixel i shows input pixel i // 2, which is the rule of the published checkpoints (nearest,
    no half-pixel centres) also at odd sizes, where `keras.layers.Resizing` differs. Written as
    concatenation and reshape, because XNNPACK leaves RESIZE_NEAREST_NEIGHBOR to the plain kernels and
    Keras's UpSampling2D becomes 5-D tiling that Edge TPU and GPU refuse.

    Args:
        height: rows of the output.
        width: columns of the output.
        **kwargs: `name` and what else `keras.layers.Layer` takes.
    """

    def __init__(self, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.height = height
        self.width = width

    def build(self, input_shape: Any) -> None:
        """Checks that the output is about twice the input."""
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
        """The output's size."""
        return {**super().get_config(), "height": self.height, "width": self.width}
