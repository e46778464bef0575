"""A range of channels, for convolutions over groups of them."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="effkeras")
class ChannelSlice(keras.layers.Layer):
    """The channels `start` to `stop` of a map.

    Args:
        start: first channel.
        stop: the channel after the last.
        **kwargs: `name` and what else `keras.layers.Layer` takes.
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
        """The range."""
        return {**super().get_config(), "start": self.start, "stop": self.stop}
