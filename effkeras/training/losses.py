"""A classifier's loss; a detector's are in `effkeras.detection.losses`."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="effkeras")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy against class numbers whose targets are smoothed (Szegedy et al. 2016, section 7).

    The true class's target is `1 - label_smoothing + label_smoothing / C`, that of the other C - 1 classes
    `label_smoothing / C`; Keras's own sparse loss cannot smooth.

    Args:
        label_smoothing: 0 leaves the targets at 0 and 1.
        name: the loss's name in logs.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "smoothed_crossentropy"):
        super().__init__(name=name, dtype="float32")
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(B,) or (B, 1) class numbers and (B, C) probabilities to one loss per picture, (B,)."""
        numbers = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        targets = ops.one_hot(numbers, y_pred.shape[-1], dtype="float32")
        return keras.losses.categorical_crossentropy(
            targets, ops.cast(y_pred, "float32"), label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        """The share of smoothing."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def classifier_loss(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss to compile a classifier with; its targets are class numbers."""
    if label_smoothing == 0:
        return keras.losses.SparseCategoricalCrossentropy()
    return SmoothedCrossentropy(label_smoothing)
