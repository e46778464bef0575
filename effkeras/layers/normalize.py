"""The normalisation layer: maps pixels 0..255 to the range that the weights were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from effkeras.definitions.definition import LARGEST, ModelSpec, spec_from_table
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import parse_toml


@keras.saving.register_keras_serializable(package="effkeras")
class Normalize(keras.layers.Layer):
    """`(pixels - mean) / std` per channel, always in float32.

    It also carries the model's resolved definition as TOML text, so that a saved file identifies its
    model.

    Args:
        mean: per-channel mean on the 0..255 scale.
        std: per-channel standard deviation on the 0..255 scale.
        definition: the resolved definition as TOML text.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.
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
        width = pixels.shape[2]
        return keras.ops.cast(pixels, "float32") * _row(scale, width) + _row(offset, width)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer."""
        own = {"mean": self.mean, "std": self.std, "definition": self.definition}
        return {**super().get_config(), **own}


def _row(channels: list[float], width: int | None) -> np.ndarray:
    """The channels' values repeated for a row of pixels, (1, 1, width, 3).

    The width is 1 where it is unknown, or larger than any image's, as a file may declare.
    XNNPACK broadcasts a constant slowly in runs of 3 values: that would take 5 % of EfficientNet-B0's time.
    """
    return np.tile(np.asarray(channels, np.float32), (1, 1, width if width and width <= LARGEST else 1, 1))


def spec_of(model: keras.Model) -> ModelSpec:
    """The definition that a model carries in its first layer.

    Raises EffkerasError when the model was not built by effkeras.
    """
    spec = definition_in(model)
    if spec is None:
        raise EffkerasError(f"the model {model.name!r} carries no definition; build it with effkeras.build")
    return spec


def definition_in(model: keras.Model) -> ModelSpec | None:
    """The definition that a model built by effkeras carries; None for any other model."""
    for layer in model.layers:
        if isinstance(layer, Normalize) and layer.definition:
            return spec_from_table(parse_toml(layer.definition, model.name), model.name)
    return None
