"""The importance of each unit of channels: how much the model would lose without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from effkeras.data.classes import matched
from effkeras.data.masks import classes_of
from effkeras.data.records import LabelledData
from effkeras.data.store import ImageStore
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.losses import detector_losses, mask_loss
from effkeras.graph.channel_flow import LayerFlow, Numbers, Sliced
from effkeras.layers.normalize import definition_in
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.training.pipeline import BatchSpec, training_batches
from effkeras.training.session import spread
from quantize.channels.groups import Channels

# (pixels, targets) as the model's loss takes them.
LabelledBatches = Iterable[tuple[Any, Any]]
Loss = Callable[[Any, Any], Any]


def by_norm(channels: Channels) -> np.ndarray:
    """The mean L1 norm of the kernels that make a unit, (U,), relative to the layer's (Li et al. 2017)."""
    mean = _Mean(channels.unit)
    for layer, made in channels.makers:
        if layer.slices:
            made_on = next(one for one in layer.slices if one.numbers is made)
            mean.add(made, _sizes(layer, made_on))
    return mean.values()


def by_scale(channels: Channels) -> np.ndarray:
    """The mean absolute scale of the batch normalisations that a unit passes through, (U,).

    Each scale is relative to its layer's mean (after Liu et al. 2017, "Network Slimming"). Units without
    batch normalisation get the value of `by_norm`.
    """
    mean = _Mean(channels.unit)
    for layer in channels.flow.layers.values():
        if isinstance(layer.layer, keras.layers.BatchNormalization) and layer.layer.scale:
            mean.add(layer.slices[0].numbers, _sizes(layer, layer.slices[0]))
    return np.where(mean.counts > 0, mean.values(), by_norm(channels))


def by_taylor(channels: Channels, loss: Loss, batches: LabelledBatches) -> np.ndarray:
    """The squared change of the loss when a unit is removed, to first order, (U,).

    A channel ends in the rows of the kernels that mix it with others. The sum of weight times gradient
    there equals that of activation times gradient (Molchanov et al. 2019, equation 8), over all layers that
    the unit feeds. Batch normalisation runs in inference mode.

    Raises EffkerasError when there are no batches, or the loss is NaN or infinite.
    """
    ends = [layer for layer in channels.flow.layers.values() if layer.mixed is not None]
    kernels = [layer.layer.weights[layer.mixed.weight] for layer in ends]  # type: ignore[union-attr]
    total, count = np.zeros(int(channels.unit.max()) + 1), 0
    for pixels, targets in track(list(batches), "importance of channels"):
        change, products = (
            np.zeros_like(total),
            _products(channels.flow.model, loss, (pixels, targets), kernels),
        )
        for layer, product in zip(ends, products, strict=True):
            end: Sliced = layer.mixed  # type: ignore[assignment]
            np.add.at(change, channels.unit[end.numbers], _others_summed(product, end.axis))
        total += change**2
        count += 1
    if count == 0:
        raise EffkerasError('importance "taylor" needs labelled images; there is not one batch')
    return total / count


def _products(
    model: keras.Model, loss: Loss, batch: tuple[Any, Any], kernels: list[keras.Variable]
) -> list[np.ndarray]:
    """Each kernel times the gradient of the loss with respect to it."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        values = [kernel.value for kernel in kernels]
        tape.watch(values)
        result = loss(batch[1], model(batch[0], training=False))
    if not np.isfinite(float(result)):
        raise EffkerasError("the loss is not finite; channels cannot be ranked by its gradient")
    gradients = tape.gradient(result, values, unconnected_gradients="zero")
    return [np.asarray(one) * np.asarray(value) for one, value in zip(gradients, values, strict=True)]


class _Mean:
    """The mean of each unit's values over layers."""

    def __init__(self, unit: Numbers):
        self._unit = unit
        self._sums = np.zeros(int(unit.max()) + 1)
        self.counts = np.zeros_like(self._sums)

    def add(self, numbers: Numbers, sizes: np.ndarray) -> None:
        """Adds the values of one layer, (C,), scaled to a mean of 1."""
        np.add.at(self._sums, self._unit[numbers], sizes / max(float(sizes.mean()), 1e-12))
        np.add.at(self.counts, self._unit[numbers], 1)

    def values(self) -> np.ndarray:
        return self._sums / np.maximum(self.counts, 1)


def _sizes(layer: LayerFlow, one: Sliced) -> np.ndarray:
    return _others_summed(np.abs(np.asarray(layer.layer.weights[one.weight])), one.axis)


def _others_summed(values: np.ndarray, axis: int) -> np.ndarray:
    """Sums over all axes except one."""
    others = tuple(index for index in range(values.ndim) if index != axis)
    return values.astype(float).sum(axis=others)


BATCH, BATCHES = 16, 16


def loss_of(model: keras.Model) -> Loss:
    """The loss that a model is compiled with, or else the training loss of its definition.

    Raises EffkerasError when the model has neither.
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
    """Batches of (pixels, targets): those given, or a spread sample of a data set, without augmentation."""
    if data is None:
        raise EffkerasError('importance "taylor" needs labelled images; give data, or choose "bn-scale"')
    if not isinstance(data, LabelledData):
        return data
    spec = definition_in(model)
    if spec is None:
        raise EffkerasError(
            f"{model.name!r} carries no definition that tells how images become its input; "
            "give batches of (pixels, targets)"
        )
    few = spread(matched(data, spec), BATCH * BATCHES)
    size = min(BATCH, len(few.records))
    store = ImageStore(few, spec.input, classes_of(spec, few))
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
