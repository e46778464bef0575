"""Training callbacks: averaged weights, statistics of batch normalisation, hooks with their own state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from effkeras.training.optimizers import vectors_of


class AveragedWeights(keras.callbacks.Callback):
    """Averages the weights after every step: `average += (1 - d) * (weight - average)`.

    The decay d is `min(decay, (1 + n) / (10 + n))` after n steps, so that a short training is not
    averaged with its random start (EfficientNet reference code). Keras's own `use_ema` leaves batch
    normalisation's statistics out.
    """

    def __init__(self, model: keras.Model, decay: float):
        super().__init__()
        self._vectors = list(vectors_of([weight.value for weight in averaged(model)]))
        self.values = [tf.Variable(vector.values(), trainable=False) for vector in self._vectors]
        self._decay = decay
        self._update = tf.function(self._step, autograph=False)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Averages once."""
        steps = tf.cast(self.model.optimizer.iterations.value, tf.float32)
        self._update(steps)

    def _step(self, steps: tf.Tensor) -> None:
        decay = tf.minimum(self._decay, (1.0 + steps) / (10.0 + steps))
        for value, vector in zip(self.values, self._vectors, strict=True):
            value.assign_add((1.0 - decay) * (vector.values() - value))

    def copy_to(self, model: keras.Model) -> None:
        """Gives another model of the same definition the averaged weights."""
        for value, vector in zip(self.values, vectors_of(averaged(model)), strict=True):
            vector.assign(value)


def averaged(model: keras.Model) -> list[Any]:
    """The weights that are averaged: all but random generators' states."""
    return [weight for weight in model.weights if "seed_generator" not in weight.path]


class RisingMomentum(keras.callbacks.Callback):
    """Averages a model's statistics with a momentum of `min(own, (1 + n) / (10 + n))` after n steps.

    Averages start at mean 0 and variance 1. A fixed momentum of 0.99 still holds a hundredth of that start
    after 460 steps: ten times the true variance where that is 0.001, as in the heads of a detector. The
    rising one, which averaged weights have too (`AveragedWeights`), forgets the start in a dozen
    steps; from then on, statistics computed anew from training images gave no better metric.

    The model is for training only: its momenta are variables, which cannot be saved.
    """

    def __init__(self, model: keras.Model):
        super().__init__()
        norms = list(norms_of(model))
        self._momenta = {own: tf.Variable(own, trainable=False) for own in {norm.momentum for norm in norms}}
        for norm in norms:
            norm.momentum = self._momenta[norm.momentum]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the momenta for the step."""
        self.set(self.model.optimizer.iterations)

    def set(self, steps: Any) -> None:
        """Sets the momenta for the step after so many; may run inside a graph."""
        steps = tf.cast(steps, tf.float32)
        for own, momentum in self._momenta.items():
            momentum.assign(tf.minimum(own, (1 + steps) / (10 + steps)))


def norms_of(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    """The batch normalisations of a model and of the models in it."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from norms_of(layer)


class Hook(keras.callbacks.Callback):
    """A callback whose state belongs to the training: checkpointed, and restored when it is resumed.

    Keras's own `self.model` may be a wrapper; `self.trained` is the model whose weights are trained.
    """

    trained: keras.Model
    total_steps: int

    def attach(self, model: keras.Model, total_steps: int) -> None:
        """Called once, before a checkpoint is restored and before the first step; makes the state."""
        self.trained = model
        self.total_steps = total_steps

    def state(self) -> list[Any]:
        """The variables that the rest of the training depends on, always in the same order."""
        return []

    def finalize(self, model: keras.Model) -> None:
        """Called on the copy with averaged weights, before it is validated or saved."""


class FitHook(Hook):
    """A hook that attaches itself to the model of `fit`, unless it was attached before.

    The number of steps is then 0 where `fit` does not know it.
    """

    _is_own: bool = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Attaches the hook."""
        trained = getattr(self, "trained", None)
        if trained is None or (self._is_own and trained is not self.model):
            self._is_own = True
            self.attach(self.model, self.params["epochs"] * (self.params.get("steps") or 0))
