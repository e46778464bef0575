"""Losses and optimizer of a training."""

from __future__ import annotations

from functools import partial

import keras

from effkeras.definition import ModelSpec
from effkeras.detection.losses import detector_losses
from effkeras.segmentation.losses import mask_loss
from effkeras.training.auxiliary import auxiliary_losses, auxiliary_weight
from effkeras.training.flat_adamw import UNDECAYED, FlatAdamW
from effkeras.training.losses import classifier_loss
from effkeras.training.schedule import WarmupCosine
from effkeras.training.settings import TrainSettings


def compile_for(model: keras.Model, spec: ModelSpec, settings: TrainSettings, steps: int) -> None:
    """Compiles a model with the losses of its family and the optimizer of the settings.

    `steps` is the number of steps per epoch. A model `with_auxiliary` gets the losses of both outputs.
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
    """The learning rate over a training with `steps` steps per epoch."""
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
