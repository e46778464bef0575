"""A detector's losses as plain Keras losses (focal loss: Lin et al. 2017; constants: EfficientDet).

`effkeras.detection.matching` makes the targets: `class_logits` is int (B, N): the class, -1 for
background, -2 for ignored anchors; `box_deltas` is (B, N, 5): the four deltas and 1 for positive anchors.
Each loss is a sum over anchors divided by the number of positives in the whole batch plus one. Where several
devices share a batch, that is the batch of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from effkeras.data.masks import IGNORED as IGNORED_PIXEL
from effkeras.support.backend import replicas, sum_over_replicas

IGNORED = -2
# Larger deltas of a size count as this one, so that their exponential stays finite (Detectron's limit).
_MOST_GROWTH = math.log(1000 / 16)


@keras.saving.register_keras_serializable(package="effkeras")
class FocalLoss(keras.losses.Loss):
    """Sigmoid focal loss over classes.

    Args:
        alpha: weight of positive against negative targets.
        gamma: how strongly easy anchors are down-weighted.
        label_smoothing: 0 keeps the targets at 0 and 1.
        class_weights: a factor for each class, by which all terms of its positive anchors are multiplied;
            () for none.
        name: the loss's name in logs.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 1.5,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] = (),
        name: str = "focal",
    ):
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.alpha = alpha
        self.gamma = gamma
        self.label_smoothing = label_smoothing
        self.class_weights = tuple(class_weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(B, N) targets and (B, N, C) logits to one loss per image, (B,)."""
        labels = ops.cast(y_true, "int32")
        positives = sum_over_replicas(ops.sum(ops.cast(labels >= 0, "float32"))) + 1.0
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
        if self.class_weights:
            counted *= 1.0 + ops.sum(targets * (np.asarray(self.class_weights, "float32") - 1.0), axis=-1)
        return ops.sum(ops.sum(losses, axis=-1) * counted, axis=-1) / positives

    def get_config(self) -> dict[str, Any]:
        """The arguments of the loss."""
        return {
            "alpha": self.alpha,
            "gamma": self.gamma,
            "label_smoothing": self.label_smoothing,
            "class_weights": list(self.class_weights),
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
        positives = sum_over_replicas(ops.sum(positive)) + 1.0
        error = ops.abs(y_true[..., :4] - ops.cast(y_pred, "float32"))
        inner = ops.minimum(error, self.delta)
        losses = ops.sum(inner * (error - 0.5 * inner), axis=-1)
        return self.weight * ops.sum(losses * positive, axis=-1) / (4.0 * positives)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the loss."""
        return {"delta": self.delta, "weight": self.weight, "name": self.name}


class _Sides(NamedTuple):
    """Boxes in units of their anchors, around the anchors' centres: each (B, N)."""

    top: Any
    left: Any
    bottom: Any
    right: Any

    @property
    def height(self) -> Any:
        return self.bottom - self.top

    @property
    def width(self) -> Any:
        return self.right - self.left


def _sides(deltas: Any) -> _Sides:
    y, x = deltas[..., 0], deltas[..., 1]
    height = ops.exp(ops.minimum(deltas[..., 2], _MOST_GROWTH))
    width = ops.exp(ops.minimum(deltas[..., 3], _MOST_GROWTH))
    return _Sides(y - height / 2, x - width / 2, y + height / 2, x + width / 2)


def _union_and_iou(true: _Sides, found: _Sides) -> tuple[Any, Any]:
    height = ops.minimum(true.bottom, found.bottom) - ops.maximum(true.top, found.top)
    width = ops.minimum(true.right, found.right) - ops.maximum(true.left, found.left)
    overlap = ops.relu(height) * ops.relu(width)
    union = true.height * true.width + found.height * found.width - overlap
    return union, overlap / union


def _enclosing(true: _Sides, found: _Sides) -> _Sides:
    return _Sides(
        ops.minimum(true.top, found.top),
        ops.minimum(true.left, found.left),
        ops.maximum(true.bottom, found.bottom),
        ops.maximum(true.right, found.right),
    )


@keras.saving.register_keras_serializable(package="effkeras")
class IouLoss(keras.losses.Loss):
    """One minus the intersection over union of the true and the predicted box of each positive anchor.

    Both boxes are coded against the same anchor, so areas are compared in units of the anchor's.

    Args:
        weight: factor relative to the focal loss.
        name: the loss's name in logs.
    """

    def __init__(self, weight: float = 2.0, name: str = "box"):
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.weight = weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(B, N, 5) targets and (B, N, 4) deltas to one loss per image, (B,)."""
        positive = y_true[..., 4]
        positives = sum_over_replicas(ops.sum(positive)) + 1.0
        # Only deltas of positive anchors: far ones of others would have gradients that are not finite.
        found = ops.where(positive[..., None] > 0, ops.cast(y_pred, "float32"), 0.0)
        losses = self.distance(_sides(y_true[..., :4]), _sides(found))
        return self.weight * ops.sum(losses * positive, axis=-1) / positives

    def distance(self, true: _Sides, found: _Sides) -> Any:
        """The loss of each anchor, (B, N)."""
        return 1.0 - _union_and_iou(true, found)[1]

    def get_config(self) -> dict[str, Any]:
        """The arguments of the loss."""
        return {"weight": self.weight, "name": self.name}


@keras.saving.register_keras_serializable(package="effkeras")
class GiouLoss(IouLoss):
    """`IouLoss` plus the share of the enclosing box that neither box covers (Rezatofighi et al. 2019)."""

    def distance(self, true: _Sides, found: _Sides) -> Any:
        """The loss of each anchor, (B, N), 0 to 2."""
        union, iou = _union_and_iou(true, found)
        around = _enclosing(true, found)
        area = around.height * around.width
        return 1.0 - iou + (area - union) / area


@keras.saving.register_keras_serializable(package="effkeras")
class CiouLoss(IouLoss):
    """`IouLoss` plus penalties for the distance of the centres and for another shape (Zheng et al. 2020).

    Args:
        weight: factor relative to the focal loss.
        aspects: height / width of each anchor, (N,), on which both penalties depend; () for squares.
        name: the loss's name in logs.
    """

    def __init__(self, weight: float = 2.0, aspects: Sequence[float] | np.ndarray = (), name: str = "box"):
        super().__init__(weight, name)
        self.aspects = np.asarray(aspects, np.float32)

    def distance(self, true: _Sides, found: _Sides) -> Any:
        """The loss of each anchor, (B, N)."""
        _, iou = _union_and_iou(true, found)
        return 1.0 - iou + self._offset(true, found) + self._misshape(true, found, iou)

    def _offset(self, true: _Sides, found: _Sides) -> Any:
        """Squared distance of the centres by the squared diagonal of the enclosing box."""
        stretch = self._stretch()
        around = _enclosing(true, found)
        down = (true.top + true.bottom - found.top - found.bottom) / 2 * stretch
        right = (true.left + true.right - found.left - found.right) / 2
        return (down**2 + right**2) / ((around.height * stretch) ** 2 + around.width**2)

    def _misshape(self, true: _Sides, found: _Sides, iou: Any) -> Any:
        stretch = self._stretch()
        turn = ops.arctan2(true.width, true.height * stretch) - ops.arctan2(
            found.width, found.height * stretch
        )
        difference = 4 / math.pi**2 * turn**2
        share = ops.stop_gradient(difference / ops.maximum(1.0 - iou + difference, 1e-7))
        return share * difference

    def _stretch(self) -> Any:
        return self.aspects if len(self.aspects) else 1.0

    def get_config(self) -> dict[str, Any]:
        """The arguments of the loss."""
        return {**super().get_config(), "aspects": self.aspects.tolist()}


@dataclass(frozen=True, slots=True)
class LossOptions:
    """What the losses of a model depend on.

    `box` is a key of `BOX_LOSSES`; `box_weight` its factor relative to the focal loss, None for its default.
    `alpha` and `gamma` are those of `FocalLoss`. `class_weights` has a factor for each class, or none.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    alpha: float = 0.25
    gamma: float = 1.5
    box: str = "huber"
    box_weight: float | None = None


# Each takes its weight and the aspects (height / width) of the anchors.
BOX_LOSSES: dict[str, Callable[[float | None, Sequence[float] | np.ndarray], keras.losses.Loss]] = {
    "huber": lambda weight, _: BoxLoss() if weight is None else BoxLoss(weight=weight),
    "iou": lambda weight, _: IouLoss() if weight is None else IouLoss(weight),
    "giou": lambda weight, _: GiouLoss() if weight is None else GiouLoss(weight),
    "ciou": lambda weight, aspects: CiouLoss(2.0 if weight is None else weight, aspects),
}


def detector_losses(
    options: LossOptions = LossOptions(), aspects: Sequence[float] | np.ndarray = ()
) -> dict[str, keras.losses.Loss]:
    """The losses for compiling a detector; `aspects` are height / width of its anchors, (N,), for ciou."""
    classes = FocalLoss(options.alpha, options.gamma, options.label_smoothing, options.class_weights)
    return {"class_logits": classes, "box_deltas": BOX_LOSSES[options.box](options.box_weight, aspects)}


def _sigmoid_cross_entropy(targets: Any, logits: Any) -> Any:
    return ops.relu(logits) - logits * targets + ops.softplus(-ops.abs(logits))


@keras.saving.register_keras_serializable(package="effkeras")
class MaskLoss(keras.losses.SparseCategoricalCrossentropy):
    """Keras's cross-entropy, which several replicas divide by the pixels of all of them."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """(B, h, w) classes and (B, h, w, C) logits to one number."""
        loss = super().__call__(y_true, y_pred, sample_weight)
        if replicas() == 1:
            return loss
        # Keras's mean is over the pixels of this replica, and the sum of its losses over all replicas counts.
        known = ops.sum(ops.cast(ops.not_equal(y_true, IGNORED_PIXEL), "float32"))
        return loss * replicas() * known / ops.maximum(sum_over_replicas(known), 1.0)


def mask_loss() -> keras.losses.Loss:
    """Mean cross-entropy of (B, h, w) classes and (B, h, w, C) logits over all pixels that are not ignored.

    It is added to the box losses without a factor, as in the reference code.
    """
    return MaskLoss(from_logits=True, ignore_class=IGNORED_PIXEL, name="mask", dtype="float32")
