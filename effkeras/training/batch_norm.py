"""Batch normalisation's statistics in trainings of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf


class RisingMomentum(keras.callbacks.Callback):
    """Averages a model's statistics with a momentum of `min(own, (1 + n) / (10 + n))` after n steps.

    Averages start at mean 0 and variance 1. A fixed momentum of 0.99 still holds a hundredth of that start
    after 460 steps: ten times the true variance where that is 0.001, as in the heads of a detector. The
    rising one, which averaged weights have too (`effkeras.training.ema`), forgets the start in a dozen
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
