"""Compiles models with the losses of their kind and their optimizer."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from keras import ops

from effkeras.definitions.definition import ModelSpec
from effkeras.detection.losses import detector_losses, mask_loss
from effkeras.training.auxiliary import auxiliary_losses, auxiliary_weight
from effkeras.training.optimizers import UNDECAYED, FlatAdamW, WarmupCosine
from effkeras.training.settings import TrainSettings


@keras.saving.register_keras_serializable(package="effkeras")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy with integer labels and label smoothing (Szegedy et al. 2016, section 7).

    The target of the true class is `1 - label_smoothing + label_smoothing / C`, that of the other C - 1
    classes `label_smoothing / C`. Keras's own sparse loss has no smoothing.

    Args:
        label_smoothing: 0 leaves the targets at 0 and 1.
        name: the loss's name in logs.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "smoothed_crossentropy"):
        super().__init__(name=name, dtype="float32")
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(B,) or (B, 1) class numbers and (B, C) probabilities to one loss per image, (B,)."""
        numbers = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        targets = ops.one_hot(numbers, y_pred.shape[-1], dtype="float32")
        return keras.losses.categorical_crossentropy(
            targets, ops.cast(y_pred, "float32"), label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        """The amount of smoothing and the name."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def classifier_loss(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss for a classifier; its targets are class numbers."""
    if label_smoothing == 0:
        return keras.losses.SparseCategoricalCrossentropy()
    return SmoothedCrossentropy(label_smoothing)


def compile_for(model: keras.Model, spec: ModelSpec, settings: TrainSettings, steps: int) -> None:
    """Compiles a model with the losses of its family and the optimizer of the settings.

    `steps` is the number of steps per epoch. A model of `with_auxiliary` gets losses for both outputs.
    """
    optimizer = _optimizer(settings, schedule_of(settings, steps))
    if spec.is_detector:
        boxes = detector_losses(settings.label_smoothing) if spec.detects else {}
        model.compile(optimizer, loss=boxes | ({"mask_logits": mask_loss()} if spec.segments else {}))
    elif isinstance(getattr(model, "output", None), dict):  # a classifier with its auxiliary head
        loss = partial(classifier_loss, settings.label_smoothing)
        model.compile(optimizer, **auxiliary_losses(model, loss, auxiliary_weight(spec)))
    else:
        model.compile(optimizer, loss=classifier_loss(settings.label_smoothing))


def schedule_of(settings: TrainSettings, steps: int) -> WarmupCosine:
    """The learning rate schedule of a training with `steps` steps per epoch."""
    return WarmupCosine(settings.learning_rate, int(settings.warmup_epochs * steps), settings.epochs * steps)


def _optimizer(settings: TrainSettings, schedule: WarmupCosine) -> keras.optimizers.Optimizer:
    if settings.optimizer == "adamw":
        return FlatAdamW(schedule, settings.weight_decay, settings.clip_norm)
    sgd = keras.optimizers.SGD(
        schedule,
        momentum=0.9,
        weight_decay=settings.weight_decay or None,
        global_clipnorm=settings.clip_norm,
    )
    sgd.exclude_from_weight_decay(var_names=list(UNDECAYED))
    return sgd
