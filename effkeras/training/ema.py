"""Exponential moving average of all weights, batch normalisation's statistics included."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from effkeras.training.vectors import vectors_of


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
