"""Artifacts whose size or speed is measured: calibrated on random pixels, as ranges change neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from quantize.post_training.quantization import PtqOptions, float_parts, quantize_pixels
from quantize.recipes import find

if TYPE_CHECKING:
    import keras

    from quantize.recipes import Edges

PICTURES = 4


def noise(shape: Sequence[int], pictures: int = PICTURES, seed: int = 0) -> list[np.ndarray]:
    """Random pixels 0..255, float32 (1, H, W, C) each; `shape` is (H, W, C)."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (1, *shape)).astype(np.float32) for _ in range(pictures)]


def artifacts_on_noise(model: keras.Model, recipes: Sequence[str], io: Edges = "float32") -> dict[str, bytes]:
    """A .tflite for each recipe, from one conversion. Raises EffkerasError for recipes that do not exist."""
    options = {name: PtqOptions(find(name), io) for name in recipes}
    parts = float_parts(model, next(iter(options.values())))
    pixels = noise(model.inputs[0].shape[1:])
    return {name: quantize_pixels(parts, one, pixels).flatbuffer for name, one in options.items()}
