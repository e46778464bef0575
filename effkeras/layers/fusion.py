"""Fast normalised fusion (EfficientDet paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

EPSILON = 1e-4


@keras.saving.register_keras_serializable(package="effkeras")
class FastFusion(keras.layers.Layer):
    """Sum of equally shaped maps weighted by `relu(w_i) / (sum(relu(w)) + 1e-4)`.

    The weights are scalars `w0`, `w1`, ... that start at one.
    """

    def build(self, input_shape: Sequence[Any]) -> None:
        """Makes one scalar per input."""
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
        """That of each input."""
        return tuple(input_shape[0])
