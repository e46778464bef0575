"""What training compiles: losses by kind of model, the auxiliary head of cell networks, the optimizer.

An auxiliary head is a second classifier on a middle layer, for training only. Its loss reaches the early
cells on a shorter path (NASNet paper, appendix A; weight 0.4). It is added to a model that is complete
without it and shares that model's weights. Only that model is saved, evaluated and exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import AUXILIARY
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.losses import LossOptions, detector_losses, mask_loss
from effkeras.graph.functional import deep_graphs
from effkeras.graph.keras_net import KerasNet
from effkeras.layers.batch_norm import use_fused_kernels
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.training.freezing import rules_for
from effkeras.training.optimizers import (
    OptimizerOptions,
    Rules,
    Schedule,
    TimedCosine,
    TimedExponential,
    WarmupCosine,
    WarmupExponential,
    optimizer_for,
)
from effkeras.training.pipeline import without_autograph
from effkeras.training.settings import TrainSettings


def auxiliary_weight(spec: ModelSpec) -> float:
    """The weight of the auxiliary loss in the definition; 0 if the model has no such head."""
    return 0.0 if spec.is_detector else spec.network.auxiliary_weight


def with_auxiliary(model: keras.Model) -> keras.Model:
    """A classifier together with its auxiliary head, for training both.

    Args:
        model: a classifier of cells, as built by `effkeras.build`. Its layers are shared, so training the
            returned model trains this one; keep this one and discard the returned one.

    Returns:
        A model with the same input that returns a dict: the classifier's output under its own name,
        `probabilities` or `scores`, and `auxiliary`, (B, classes) of the same kind.

    Raises:
        EffkerasError: the model is not a classifier of cells built by effkeras.
    """
    spec = spec_of(model)
    layer = "" if spec.is_detector else spec.network.auxiliary_layer
    if not layer:
        raise EffkerasError(f"{spec.name} is no classifier of cells: it has no auxiliary head")
    features = model.get_layer(layer).output
    last, dtype = model.get_layer(model.output_names[0]), model.get_layer("logits").dtype_policy.name
    logits = spec.network.auxiliary_logits(KerasNet(dtype), features, spec.classes)
    second = keras.layers.Activation(last.activation, dtype="float32", name=AUXILIARY)(logits)
    with deep_graphs():
        return keras.Model(model.input, {last.name: model.output, AUXILIARY: second}, name=model.name)


def auxiliary_losses(
    model: keras.Model, loss: Callable[[], keras.losses.Loss], weight: float = 0.4
) -> dict[str, Any]:
    """Arguments of `compile` besides the optimizer: `model.compile("adamw", **auxiliary_losses(...))`.

    Args:
        model: a model of `with_auxiliary`.
        loss: creates the loss, once per output.
        weight: the weight of the auxiliary loss; that of the classifier's loss is 1.
    """
    weights = {name: weight if name == AUXILIARY else 1.0 for name in model.output}
    return {"loss": {name: loss() for name in weights}, "loss_weights": weights}


def auxiliary_targets(model: keras.Model, data: tf.data.Dataset) -> tf.data.Dataset:
    """Turns (pixels, labels) batches into (pixels, the same labels for both outputs)."""
    names = list(model.output)
    return data.map(without_autograph(lambda pixels, labels: (pixels, dict.fromkeys(names, labels))))


@keras.saving.register_keras_serializable(package="effkeras")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of class numbers or shares of classes, with label smoothing (Szegedy et al. 2016).

    The target of the true class is `1 - label_smoothing + label_smoothing / C`, that of the other C - 1
    classes `label_smoothing / C`. Keras's own sparse loss has no smoothing.

    Args:
        label_smoothing: 0 leaves the targets at 0 and 1.
        class_weights: a factor for each class, of the images whose true class it is; () for none.
        name: the loss's name in logs.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] = (),
        name: str = "smoothed_crossentropy",
    ):
        super().__init__(name=name, dtype="float32")
        self.label_smoothing = label_smoothing
        self.class_weights = tuple(class_weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(B,) or (B, 1) class numbers, or (B, C) shares, and (B, C) probabilities to losses (B,)."""
        if len(y_true.shape) == 2 and y_true.shape[-1] == y_pred.shape[-1] > 1:
            targets = ops.cast(y_true, "float32")
        else:
            numbers = ops.cast(ops.reshape(y_true, (-1,)), "int32")
            targets = ops.one_hot(numbers, y_pred.shape[-1], dtype="float32")
        losses = keras.losses.categorical_crossentropy(
            targets, ops.cast(y_pred, "float32"), label_smoothing=self.label_smoothing
        )
        if not self.class_weights:
            return losses
        return losses * ops.sum(targets * np.asarray(self.class_weights, "float32"), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the loss."""
        return {
            "label_smoothing": self.label_smoothing,
            "class_weights": list(self.class_weights),
            "name": self.name,
        }


def classifier_loss(
    label_smoothing: float = 0.0, class_weights: Sequence[float] = (), soft: bool = False
) -> keras.losses.Loss:
    """The loss for a classifier; its targets are class numbers, or if `soft` shares of the classes too."""
    if label_smoothing == 0 and not class_weights and not soft:
        return keras.losses.SparseCategoricalCrossentropy()
    return SmoothedCrossentropy(label_smoothing, class_weights)


def losses_for(
    spec: ModelSpec, settings: TrainSettings, class_weights: Sequence[float] = ()
) -> dict[str, keras.losses.Loss]:
    """A detector's losses by output; `class_weights` are factors for each class, or none."""
    options = LossOptions(
        settings.label_smoothing,
        tuple(class_weights),
        settings.focal_alpha,
        settings.focal_gamma,
        settings.box_loss,
        settings.box_weight,
    )
    boxes = detector_losses(options, _aspects(spec)) if spec.detects else {}
    return boxes | ({"mask_logits": mask_loss()} if spec.segments else {})


def _aspects(spec: ModelSpec) -> np.ndarray:
    """Height / width of each anchor, float32 (N,)."""
    anchors = anchor_boxes(spec)
    sizes = anchors[:, 2:] - anchors[:, :2]
    return sizes[:, 0] / sizes[:, 1]


def compile_for(
    model: keras.Model,
    spec: ModelSpec,
    settings: TrainSettings,
    steps: int,
    class_weights: Sequence[float] = (),
    schedule: Schedule | None = None,
) -> None:
    """Compiles a model with the losses of its family and the optimizer of the settings.

    `steps` is the number of steps per epoch; `class_weights` are factors for each class, or none; `schedule`
    is by default that of the settings. Batch normalisation trains with the fused kernel. A model of
    `with_auxiliary` gets losses for both outputs.
    """
    use_fused_kernels(model)
    optimizer = _optimizer(
        model, settings, schedule or schedule_of(settings, steps), rules_for(model, spec, settings)
    )
    compile_with(optimizer, model, spec, settings, class_weights)


def compile_with(
    optimizer: keras.optimizers.Optimizer,
    model: keras.Model,
    spec: ModelSpec,
    settings: TrainSettings,
    class_weights: Sequence[float] = (),
) -> None:
    """`compile_for` with an optimizer that is there already, as that of an earlier stage of a training."""
    if spec.is_detector:
        model.compile(optimizer, loss=losses_for(spec, settings, class_weights))
    elif isinstance(getattr(model, "output", None), dict):  # a classifier with its auxiliary head
        loss = partial(classifier_loss, settings.label_smoothing, class_weights, settings.augment.softens)
        model.compile(optimizer, **auxiliary_losses(model, loss, auxiliary_weight(spec)))
    else:
        soft = settings.augment.softens
        model.compile(optimizer, loss=classifier_loss(settings.label_smoothing, class_weights, soft))


def schedule_of(settings: TrainSettings, steps: int) -> Schedule:
    """The learning rate schedule of a training with `steps` steps per epoch.

    Unless the length is given in epochs, the rate rises over a tenth of the training at most.
    """
    warmup, peak = int(settings.warmup_epochs * steps), settings.learning_rate
    falls = settings.decay_factor, settings.decays if settings.schedule == "exponential" else 0.0
    if settings.minutes is not None:
        return (
            TimedCosine(peak, warmup)
            if settings.schedule == "cosine"
            else TimedExponential(peak, warmup, *falls)
        )
    total = settings.total_steps(steps)
    if settings.epochs is None:
        warmup = min(warmup, total // 10)
    if settings.schedule == "cosine":
        return WarmupCosine(peak, warmup, total)
    return WarmupExponential(peak, warmup, total, *falls)


def _optimizer(
    model: keras.Model, settings: TrainSettings, schedule: Schedule, rules: Rules
) -> keras.optimizers.Optimizer:
    is_half = any(layer.compute_dtype == "float16" for layer in model.layers)
    options = OptimizerOptions(
        settings.weight_decay,
        settings.clip_norm or None,
        settings.accumulate,
        is_half,
        settings.l2,
        settings.rmsprop_epsilon,
    )
    return optimizer_for(settings.optimizer, schedule, options, rules)
