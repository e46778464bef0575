"""What a model computes, layer by layer: to trace a graph first takes longer than a small batch does."""

from __future__ import annotations

import keras
import numpy as np


def outputs_of_model(model: keras.Model, pixels: np.ndarray):
    """The model's outputs as arrays, in the structure in which it gives them."""
    return keras.tree.map_structure(np.asarray, model(pixels, training=False))
