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
    """

    def __init__(self, variables: Sequence[Any], settings: TrainSettings, steps: int):
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

    def state(self) -> list[tf.Variable]:
        """What the next step depends on, beside the variables themselves."""
        return [self.steps, self._first, self._second]

    def apply(self, gradients: Sequence[Any]) -> None:
        """One step; None stands for a gradient of zeros."""
        gradient = self._clipped(self._flat(gradients))
        rate = self._schedule(self.steps)
        step = tf.cast(self.steps + 1, tf.float32)
        first = self._first.assign_add((gradient - self._first) * (1 - _FIRST))
        second = self._second.assign_add((gradient**2 - self._second) * (1 - _SECOND))
        change = first * tf.sqrt(1 - _SECOND**step) / (1 - _FIRST**step) / (tf.sqrt(second) + _EPSILON)
        values = self._flat([tf.convert_to_tensor(variable) for variable in self.variables])
        self._assign(values * (1 - rate * self._decay * self._decays) - rate * change)
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
