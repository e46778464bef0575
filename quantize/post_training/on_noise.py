"""Artifacts whose size or speed is measured: calibrated on random pixels, as ranges change neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from quantize.post_training.quantization import (
    FloatParts,
    PtqOptions,
    float_parts,
    quantize_pixels,
    ranges_of,
)
from quantize.post_training.ranges import Ranges
from quantize.recipes import find

if TYPE_CHECKING:
    import keras

    from quantize.recipes import Edges

PICTURES = 4


def noise(shape: Sequence[int], pictures: int = PICTURES, seed: int = 0) -> list[np.ndarray]:
    """Random pixels 0..255, float32 (1, H, W, C) each; `shape` is (H, W, C)."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (1, *shape)).astype(np.float32) for _ in range(pictures)]


def artifacts_on_noise(
    model: keras.Model,
    recipes: Sequence[str],
    io: Edges = "float32",
    *,
    smaller: keras.Model | None = None,
) -> dict[str, bytes]:
    """A .tflite for each recipe, from one conversion.

    Args:
        model: with a static input size.
        recipes: names of post-training recipes.
        io: the types at the artifacts' edges.
        smaller: the same network and weights at a smaller input size, on which ranges are measured instead:
            every activation is looked at, and those of D7x at 1,536 pixels are 35 GB a picture.

    Raises:
        EffkerasError: a recipe that does not exist.
    """
    options = {name: PtqOptions(find(name), io) for name in recipes}
    first = next(iter(options.values()))
    # The smaller one first, for its conversion to be forgotten before that of the other.
    ranges = {} if smaller is None else _ranges(float_parts(smaller, first), options)
    parts = float_parts(model, first)
    ranges = ranges or _ranges(parts, options)
    return {
        name: quantize_pixels(parts, one, (), ranges.get(name)).flatbuffer for name, one in options.items()
    }


def _ranges(parts: FloatParts, options: Mapping[str, PtqOptions]) -> dict[str, Ranges]:
    """For each recipe that needs some."""
    pixels = noise(parts.shape)
    return {name: ranges_of(parts, one, pixels) for name, one in options.items() if one.recipe.needs_data}
