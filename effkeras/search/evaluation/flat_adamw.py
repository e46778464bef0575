"""AdamW over all variables at once.

The arithmetic is Keras's, but on one long vector: a graph of it is traced in a tenth of the time, which in
a training of seconds is the larger part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from effkeras.training.compiling import UNDECAYED
from effkeras.training.schedule import WarmupCosine
from effkeras.training.settings import TrainSettings

_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-7  # Keras's defaults


class FlatAdamW:
    """The optimizer that `compile_for` gives a model, for variables that are always updated together.

    Args:
        variables: Keras's or TensorFlow's, float32.
        settings: of a training; weight decay, clipping and the learning rate are taken from them.
        steps: steps per epoch.
        lazy: leave a weight without a gradient as it is, its averages and its count of steps too. Where only
            a part of the weights takes part in each step, Adam would otherwise go on moving the others, and
            divide rare gradients by an average of mostly zeros: steps thirty times too long.
    """

    def __init__(self, variables: Sequence[Any], settings: TrainSettings, steps: int, *, lazy: bool = False):
        self.variables = list(variables)
        self._sizes = [int(tf.size(variable)) for variable in self.variables]
        total = sum(self._sizes)
        self._clip, self._decay = settings.clip_norm, settings.weight_decay
        self._decays = tf.repeat([float(_is_decayed(one)) for one in self.variables], self._sizes)
        warmup = int(settings.warmup_epochs * steps)
        self._schedule = WarmupCosine(settings.learning_rate, warmup, settings.epochs * steps)
        self.steps = tf.Variable(0, trainable=False)
        self._first = tf.Variable(tf.zeros(total), trainable=False)
        self._second = tf.Variable(tf.zeros(total), trainable=False)
        self._counts = tf.Variable(tf.zeros(total if lazy else ()), trainable=False)
        self._lazy = lazy

    def state(self) -> list[tf.Variable]:
        """What the next step depends on, beside the variables themselves."""
        return [self.steps, self._first, self._second, self._counts]

    def apply(self, gradients: Sequence[Any]) -> None:
        """One step; None stands for a gradient of zeros."""
        gradient = self._clipped(self._flat(gradients))
        rate = self._schedule(self.steps)
        moves = tf.cast(gradient != 0, tf.float32) if self._lazy else tf.constant(1.0)
        step = tf.maximum(self._counts.assign_add(moves), 1.0)
        first = self._first.assign_add((gradient - self._first) * (1 - _FIRST) * moves)
        second = self._second.assign_add((gradient**2 - self._second) * (1 - _SECOND) * moves)
        change = first * tf.sqrt(1 - _SECOND**step) / (1 - _FIRST**step) / (tf.sqrt(second) + _EPSILON)
        values = self._flat([tf.convert_to_tensor(variable) for variable in self.variables])
        self._assign(values - rate * moves * (self._decay * self._decays * values + change))
        self.steps.assign_add(1)

    def _clipped(self, gradient: tf.Tensor) -> tf.Tensor:
        return gradient * self._clip / tf.maximum(tf.norm(gradient), self._clip)

    def _flat(self, tensors: Sequence[Any]) -> tf.Tensor:
        parts = [
            tf.zeros(size) if tensor is None else tf.reshape(tensor, (size,))
            for tensor, size in zip(tensors, self._sizes, strict=True)
        ]
        return tf.concat(parts, axis=0)

    def _assign(self, values: tf.Tensor) -> None:
        for variable, part in zip(self.variables, tf.split(values, self._sizes), strict=True):
            variable.assign(tf.reshape(part, variable.shape))


def _is_decayed(variable: Any) -> bool:
    return variable.name not in UNDECAYED
