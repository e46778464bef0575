"""Losses and optimizer of a training."""

from __future__ import annotations

from functools import partial

import keras

from effkeras.definition import ModelSpec
from effkeras.detection.losses import detector_losses
from effkeras.segmentation.losses import mask_loss
from effkeras.training.auxiliary import auxiliary_losses, auxiliary_weight
from effkeras.training.losses import classifier_loss
from effkeras.training.schedule import WarmupCosine
from effkeras.training.settings import TrainSettings

# Names of weights that weight decay leaves alone.
UNDECAYED = ("bias", "gamma", "beta", "w0", "w1", "w2")


def compile_for(model: keras.Model, spec: ModelSpec, settings: TrainSettings, steps: int) -> None:
    """Compiles a model with the losses of its family and the optimizer of the settings.

    `steps` is the number of steps per epoch. A model `with_auxiliary` gets the losses of both outputs.
    """
    warmup, total = int(settings.warmup_epochs * steps), settings.epochs * steps
    schedule = WarmupCosine(settings.learning_rate, warmup, total)
    optimizer = _optimizer(settings, schedule)
    optimizer.exclude_from_weight_decay(var_names=list(UNDECAYED))
    if spec.is_detector:
        boxes = detector_losses(settings.label_smoothing) if spec.detects else {}
        model.compile(optimizer, loss=boxes | ({"mask_logits": mask_loss()} if spec.segments else {}))
    elif isinstance(getattr(model, "output", None), dict):  # a classifier with its auxiliary head
        loss = partial(classifier_loss, settings.label_smoothing)
        model.compile(optimizer, **auxiliary_losses(model, loss, auxiliary_weight(spec)))
    else:
        model.compile(optimizer, loss=classifier_loss(settings.label_smoothing))


def _optimizer(settings: TrainSettings, schedule: WarmupCosine) -> keras.optimizers.Optimizer:
    decay = settings.weight_decay or None
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(
            schedule, momentum=0.9, weight_decay=decay, global_clipnorm=settings.clip_norm
        )
    return keras.optimizers.AdamW(
        schedule, weight_decay=settings.weight_decay, global_clipnorm=settings.clip_norm
    )
