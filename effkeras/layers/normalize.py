"""The first layer of every model: pixels 0..255 to the range its weights were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="effkeras")
class Normalize(keras.layers.Layer):
    """`(pixels - mean) / std` per channel, always in float32.

    It also carries the model's resolved definition as TOML text, so that a saved file is enough to
    know what the model is.

    Args:
        mean: per-channel mean on the 0..255 scale.
        std: per-channel standard deviation on the 0..255 scale.
        definition: the resolved definition, TOML.
        **kwargs: `name` and what else `keras.layers.Layer` takes.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], definition: str = "", **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.mean = [float(value) for value in mean]
        self.std = [float(value) for value in std]
        self.definition = definition

    def call(self, pixels: Any) -> Any:
        """(B, H, W, 3) pixels to normalised values of the same shape."""
        scale = [1.0 / std for std in self.std]
        offset = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        return keras.ops.cast(pixels, "float32") * scale + offset

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Same as the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Constants and definition."""
        own = {"mean": self.mean, "std": self.std, "definition": self.definition}
        return {**super().get_config(), **own}
