"""Optimizers and learning rate schedules.

The AdamW here updates many variables at once: it computes like Keras's, but on a few long vectors. That takes
a tenth of the operators, all of which TensorFlow traces before the first step and launches in each step. The
first step comes two fifths sooner.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="effkeras")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `peak` over `warmup` steps, then falls to 0 at `total` steps."""

    def __init__(self, peak: float, warmup: int, total: int):
        self.peak = peak
        self.warmup = warmup
        self.total = total

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(self.warmup, 1)
        progress = ops.clip((step - self.warmup) / max(self.total - self.warmup, 1), 0.0, 1.0)
        falling = 0.5 * (1 + ops.cos(math.pi * progress))
        return self.peak * ops.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """The schedule's constants."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


# Most values in a vector of several variables: longer ones would double the memory of large models.
MOST = 2**22


@dataclass(frozen=True, eq=False, slots=True)
class Vector:
    """Variables that are handled as one float32 vector; `places` are their indices among all variables."""

    places: tuple[int, ...]
    variables: tuple[Any, ...]

    @property
    def sizes(self) -> list[int]:
        """The number of values of each variable."""
        return [_size(one) for one in self.variables]

    def values(self) -> tf.Tensor:
        """All values (n,)."""
        return self.flat([tf.convert_to_tensor(variable) for variable in self.variables])

    def flat(self, tensors: Sequence[Any]) -> tf.Tensor:
        """Concatenates one tensor per variable into one vector (n,); None stands for zeros."""
        rows = [
            tf.zeros(size) if tensor is None else tf.cast(tf.reshape(tensor, (size,)), tf.float32)
            for tensor, size in zip(tensors, self.sizes, strict=True)
        ]
        return tf.concat(rows, axis=0)

    def assign(self, values: tf.Tensor) -> None:
        """Assigns the values (n,) to the variables."""
        for variable, row in zip(self.variables, tf.split(values, self.sizes), strict=True):
            variable.assign(tf.cast(tf.reshape(row, variable.shape), variable.dtype))


def vectors_of(variables: Sequence[Any], alike: Callable[[Any], Any] = lambda _: True) -> Iterator[Vector]:
    """Packs all variables, Keras's or TensorFlow's, into vectors; one vector has one value of `alike`."""
    for kind in dict.fromkeys(map(alike, variables)):
        places = [place for place, one in enumerate(variables) if alike(one) == kind]
        for chosen in _packed(places, variables):
            yield Vector(chosen, tuple(variables[place] for place in chosen))


def _packed(places: Sequence[int], variables: Sequence[Any]) -> Iterator[tuple[int, ...]]:
    chosen: list[int] = []
    total = 0
    for place in places:
        size = _size(variables[place])
        if chosen and total + size > MOST:
            yield tuple(chosen)
            chosen, total = [], 0
        chosen.append(place)
        total += size
    if chosen:
        yield tuple(chosen)


def _size(variable: Any) -> int:
    return int(tf.TensorShape(variable.shape).num_elements())


# Names of weights without weight decay.
UNDECAYED = ("bias", "gamma", "beta", "w0", "w1", "w2")
_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-7  # Keras's defaults


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """Variables updated together; `moments` are the moving averages of their gradients and the squares.

    `counts` are the steps of each value, if these differ.
    """

    vector: Vector
    decay: float
    moments: tuple[Any, Any]
    counts: Any = None


@keras.saving.register_keras_serializable(package="effkeras")
class FlatAdamW(keras.optimizers.Optimizer):
    """`keras.optimizers.AdamW` for variables that are always updated together; a None gradient means 0.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: relative to the learning rate; not applied to biases, batch normalisation's weights
            and BiFPN's fusion weights.
        global_clipnorm: the largest norm of the gradient over all variables; larger ones are scaled down.
        lazy: leave values without a gradient unchanged, including their moments and step counts. If each
            step uses only a part of the weights, Adam would otherwise keep moving the others, and divide
            rare gradients by an average of mostly zeros: steps thirty times too long.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float = 0.0,
        global_clipnorm: float | None = None,
        *,
        lazy: bool = False,
        name: str = "flat_adamw",
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, global_clipnorm=global_clipnorm, name=name)
        self.lazy = lazy
        self._parts: list[_Part] = []

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the moments, once."""
        if self.built:
            return
        super().build(list(variables))
        self._parts = [self._part(vector) for vector in vectors_of(variables, is_decayed)]

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step. Raises ValueError unless the variables are those of `build`, in the same order."""
        if trainable_variables is not None:
            self.build(trainable_variables)
            self._check_same(trainable_variables)
        vectors = [part.vector for part in self._parts]
        gradients = [vector.flat([grads[place] for place in vector.places]) for vector in vectors]
        scale = self._scale(gradients)
        rate = tf.cast(self.learning_rate, tf.float32)
        for part, gradient in zip(self._parts, gradients, strict=True):
            self._step(part, gradient * scale, rate)
            _constrain(part.vector.variables)
        self.iterations.assign_add(1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        kept = ("name", "learning_rate", "weight_decay", "global_clipnorm")
        whole = super().get_config()
        return {**{name: whole[name] for name in kept}, "lazy": self.lazy}

    def _part(self, vector: Vector) -> _Part:
        names = ("first", "second", "count") if self.lazy else ("first", "second")
        first, second, *counts = (self.add_variable((sum(vector.sizes),), name=name) for name in names)
        decay = float(self.weight_decay or 0.0) if is_decayed(vector.variables[0]) else 0.0
        return _Part(vector, decay, (first.value, second.value), *(one.value for one in counts))

    def _check_same(self, variables: Sequence[Any]) -> None:
        known = self._trainable_variables
        if len(known) != len(variables) or any(map(operator.is_not, known, variables)):
            raise ValueError(
                f"{self.name} updates the variables it was built for, in that order, and no others"
            )

    def _scale(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        if not self.global_clipnorm:
            return tf.constant(1.0)
        length = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(one)) for one in gradients]))
        return self.global_clipnorm / tf.maximum(length, self.global_clipnorm)

    def _step(self, part: _Part, gradient: tf.Tensor, rate: tf.Tensor) -> None:
        moves, steps = self._moves(part, gradient)
        first, second = part.moments
        mean = first.assign_add((gradient - first) * (1 - _FIRST) * moves)
        square = second.assign_add((tf.square(gradient) - second) * (1 - _SECOND) * moves)
        change = mean * tf.sqrt(1 - _SECOND**steps) / (1 - _FIRST**steps) / (tf.sqrt(square) + _EPSILON)
        values = part.vector.values()
        if part.decay:
            change += part.decay * values
        part.vector.assign(values - rate * moves * change)

    def _moves(self, part: _Part, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """1 for each value updated in this step and 0 for others, and each value's step count."""
        if part.counts is None:
            return tf.constant(1.0), tf.cast(self.iterations, tf.float32) + 1
        moves = tf.cast(gradient != 0, tf.float32)
        return moves, tf.maximum(part.counts.assign_add(moves), 1.0)


def is_decayed(variable: Any) -> bool:
    """Whether weight decay applies to a variable."""
    return variable.name not in UNDECAYED


def _constrain(variables: Sequence[Any]) -> None:
    """Applies constraints of variables, which custom models may have."""
    for variable in variables:
        if getattr(variable, "constraint", None) is not None:
            variable.assign(variable.constraint(variable))
