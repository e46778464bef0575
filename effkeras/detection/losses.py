"""A detector's losses as plain Keras losses (focal loss: Lin et al. 2017; constants: EfficientDet).

`effkeras.detection.matching` makes the targets: `class_logits` is int (B, N): the class, -1 for
background, -2 for ignored anchors; `box_deltas` is (B, N, 5): the four deltas and 1 for positive anchors.
Each loss is a sum over anchors divided by the number of positives in the whole batch plus one.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from effkeras.data.masks import IGNORED as IGNORED_PIXEL

IGNORED = -2


@keras.saving.register_keras_serializable(package="effkeras")
class FocalLoss(keras.losses.Loss):
    """Sigmoid focal loss over classes.

    Args:
        alpha: weight of positive against negative targets.
        gamma: how strongly easy anchors are down-weighted.
        label_smoothing: 0 keeps the targets at 0 and 1.
        name: the loss's name in logs.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 1.5,
        label_smoothing: float = 0.0,
        name: str = "focal",
    ):
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.alpha = alpha
        self.gamma = gamma
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(B, N) targets and (B, N, C) logits to one loss per image, (B,)."""
        labels = ops.cast(y_true, "int32")
        positives = ops.sum(ops.cast(labels >= 0, "float32")) + 1.0
        # Background and ignored anchors become rows of zeros.
        targets = ops.one_hot(labels, y_pred.shape[-1], dtype="float32")
        logits = ops.cast(y_pred, "float32")
        chances = ops.sigmoid(logits)
        truth_chance = targets * chances + (1 - targets) * (1 - chances)
        balance = targets * self.alpha + (1 - targets) * (1 - self.alpha)
        discount = ops.power(ops.maximum(1 - truth_chance, 1e-8), self.gamma)
        smoothed = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        losses = balance * discount * _sigmoid_cross_entropy(smoothed, logits)
        counted = ops.cast(labels != IGNORED, "float32")
        return ops.sum(ops.sum(losses, axis=-1) * counted, axis=-1) / positives

    def get_config(self) -> dict[str, Any]:
        """The arguments of the loss."""
        return {
            "alpha": self.alpha,
            "gamma": self.gamma,
            "label_smoothing": self.label_smoothing,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="effkeras")
class BoxLoss(keras.losses.Loss):
    """Huber loss over the deltas of positive anchors.

    Args:
        delta: the error at which the loss changes from quadratic to linear.
        weight: factor relative to the focal loss.
        name: the loss's name in logs.
    """

    def __init__(self, delta: float = 0.1, weight: float = 50.0, name: str = "box"):
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.delta = delta
        self.weight = weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(B, N, 5) targets and (B, N, 4) deltas to one loss per image, (B,)."""
        positive = y_true[..., 4]
        positives = ops.sum(positive) + 1.0
        error = ops.abs(y_true[..., :4] - ops.cast(y_pred, "float32"))
        inner = ops.minimum(error, self.delta)
        losses = ops.sum(inner * (error - 0.5 * inner), axis=-1)
        return self.weight * ops.sum(losses * positive, axis=-1) / (4.0 * positives)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the loss."""
        return {"delta": self.delta, "weight": self.weight, "name": self.name}


def detector_losses(label_smoothing: float = 0.0) -> dict[str, keras.losses.Loss]:
    """The losses for compiling a detector."""
    return {"class_logits": FocalLoss(label_smoothing=label_smoothing), "box_deltas": BoxLoss()}


def _sigmoid_cross_entropy(targets: Any, logits: Any) -> Any:
    return ops.relu(logits) - logits * targets + ops.softplus(-ops.abs(logits))


def mask_loss() -> keras.losses.Loss:
    """Mean cross-entropy of (B, h, w) classes and (B, h, w, C) logits over all pixels that are not ignored.

    It is added to the box losses without a factor, as in the reference code.
    """
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=IGNORED_PIXEL, name="mask", dtype="float32"
    )
