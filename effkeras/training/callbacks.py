"""Training callbacks: averaged weights, batch norm momentum, and hooks with checkpointed state."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from effkeras.layers.batch_norm import norms_of
from effkeras.training.optimizers import steps_of, vectors_of


class AveragedWeights(keras.callbacks.Callback):
    """Averages the weights after every step: `average += (1 - d) * (weight - average)`.

    The decay d is `min(decay, (1 + n) / (10 + n))` after n steps, so that the average of a short training
    does not keep the random initial weights (EfficientNet reference code). Keras's own `use_ema` leaves out
    the statistics of batch normalisation. Where an update of the weights takes `every` steps, n counts
    updates.
    """

    def __init__(self, model: keras.Model, decay: float, every: int = 1):
        super().__init__()
        self._every = every
        self._vectors = list(vectors_of([weight.value for weight in averaged(model)]))
        self.values = [tf.Variable(vector.values(), trainable=False) for vector in self._vectors]
        self._decay = decay
        self._update = tf.function(self._step, autograph=False)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Updates the averages once, if the weights have changed."""
        steps = tf.convert_to_tensor(steps_of(self.model.optimizer).value)
        if self._every == 1 or int(steps) % self._every == 0:
            self._update(tf.cast(steps // self._every, tf.float32))

    def _step(self, steps: tf.Tensor) -> None:
        decay = tf.minimum(self._decay, (1.0 + steps) / (10.0 + steps))
        for value, vector in zip(self.values, self._vectors, strict=True):
            value.assign_add((1.0 - decay) * (vector.values() - value))

    def copy_to(self, model: keras.Model) -> None:
        """Copies the averaged weights into another model of the same definition."""
        for value, vector in zip(self.values, vectors_of(averaged(model)), strict=True):
            vector.assign(value)


def averaged(model: keras.Model) -> list[Any]:
    """The weights to average: all but the states of random generators."""
    return [weight for weight in model.weights if "seed_generator" not in weight.path]


class RisingMomentum(keras.callbacks.Callback):
    """Raises the momentum of batch normalisation to `min(own, (1 + n) / (10 + n))` after n steps.

    Moving averages start at mean 0 and variance 1. With a fixed momentum of 0.99, a hundredth of that start
    remains after 460 steps: ten times the true variance if that is 0.001, as in the heads of a detector. The
    rising momentum, which `AveragedWeights` uses too, drops the start within a dozen steps. After that,
    statistics computed anew from training images gave no better metric.

    The model is for training only: its momenta are variables, which cannot be saved.
    """

    def __init__(self, model: keras.Model):
        super().__init__()
        norms = list(norms_of(model))
        self._momenta = {own: tf.Variable(own, trainable=False) for own in {norm.momentum for norm in norms}}
        for norm in norms:
            norm.momentum = self._momenta[norm.momentum]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the momenta for this step."""
        self.set(steps_of(self.model.optimizer))

    def set(self, steps: Any) -> None:
        """Sets the momenta after `steps` finished steps; works inside a graph too."""
        steps = tf.cast(steps, tf.float32)
        for own, momentum in self._momenta.items():
            momentum.assign(tf.minimum(own, (1 + steps) / (10 + steps)))


class Hook(keras.callbacks.Callback):
    """A callback with state that is saved in checkpoints and restored on resume.

    Keras's own `self.model` may be a wrapper; `self.trained` is the model whose weights are trained.
    """

    trained: keras.Model
    total_steps: int

    @property
    def complete_from(self) -> int:
        """The step after which the model has its final form; one validated before cannot be the best."""
        return 0

    def attach(self, model: keras.Model, total_steps: int) -> None:
        """Called once, before a checkpoint is restored and before the first step; creates the state."""
        self.trained = model
        self.total_steps = total_steps

    def state(self) -> list[Any]:
        """The variables that the rest of the training depends on, always in the same order."""
        return []

    def finalize(self, model: keras.Model) -> None:
        """Called on the copy with averaged weights, before it is validated or saved."""


class FitHook(Hook):
    """A hook that attaches itself to the model of `fit`, unless it was attached before.

    `total_steps` is then 0 if `fit` does not know the number of steps.
    """

    _is_own: bool = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Attaches the hook."""
        trained = getattr(self, "trained", None)
        if trained is None or (self._is_own and trained is not self.model):
            self._is_own = True
            self.attach(self.model, self.params["epochs"] * (self.params.get("steps") or 0))
