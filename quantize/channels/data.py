"""The loss of a model on labelled pictures, whose gradient tells what channels are worth."""

from __future__ import annotations

from typing import Any

import keras

from effkeras.data.classes import matched
from effkeras.data.masks import classes_of
from effkeras.data.pipeline import BatchSpec, training_batches
from effkeras.data.records import LabelledData
from effkeras.data.store import PictureStore
from effkeras.definition import ModelSpec
from effkeras.detection.losses import detector_losses
from effkeras.errors import EffkerasError
from effkeras.external import definition_in
from effkeras.segmentation.losses import mask_loss
from effkeras.training.session import spread
from quantize.channels.importance import LabelledBatches, Loss

BATCH, BATCHES = 16, 16


def loss_of(model: keras.Model) -> Loss:
    """The loss that a model is compiled with, else the one that its definition is trained with.

    Raises EffkerasError when there is neither.
    """
    if model.compiled:
        return lambda targets, outputs: model.compute_loss(y=targets, y_pred=outputs, training=False)
    spec = definition_in(model)
    if spec is None:
        raise EffkerasError(
            f'importance "taylor" needs a loss: compile {model.name!r} first, or choose "bn-scale" or "l1"'
        )
    return _detector_loss(spec) if spec.is_detector else _classifier_loss(model)


def batches_of(model: keras.Model, data: LabelledBatches | LabelledData | None) -> LabelledBatches:
    """Batches of (pixels, targets): those given, or some from all over a data set, unchanged by chance."""
    if data is None:
        raise EffkerasError('importance "taylor" needs labelled pictures; give data, or choose "bn-scale"')
    if not isinstance(data, LabelledData):
        return data
    spec = definition_in(model)
    if spec is None:
        raise EffkerasError(
            f"{model.name!r} carries no definition that tells how pictures become its input; "
            "give batches of (pixels, targets)"
        )
    few = spread(matched(data, spec), BATCH * BATCHES)
    size = min(BATCH, len(few.records))
    store = PictureStore(few, spec.input, classes_of(spec, few))
    steps = range(max(1, len(few.records) // max(size, 1)))
    return training_batches(store, spec, BatchSpec(size, seed=0, augment=None), steps)


def _detector_loss(spec: ModelSpec) -> Loss:
    losses = detector_losses() if spec.detects else {}
    losses |= {"mask_logits": mask_loss()} if spec.segments else {}

    def loss(targets: Any, outputs: Any) -> Any:
        return sum(one(targets[name], outputs[name]) for name, one in losses.items())

    return loss


def _classifier_loss(model: keras.Model) -> Loss:
    last = getattr(model.layers[-1], "activation", None)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=last is not keras.activations.softmax)
