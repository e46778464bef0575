"""Many variables as a few long vectors.

What is done to every variable alike is done to each vector once: a tenth of the operators, which TensorFlow
has to trace before the first step and to start in each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

# Values of a vector, unless one variable has more: large models would need all of their memory again.
MOST = 2**22


@dataclass(frozen=True, eq=False, slots=True)
class Vector:
    """Variables that are handled as one float32 vector; `places` are theirs among all."""

    places: tuple[int, ...]
    variables: tuple[Any, ...]

    @property
    def sizes(self) -> list[int]:
        """Values of each variable."""
        return [_size(one) for one in self.variables]

    def values(self) -> tf.Tensor:
        """All values (n,)."""
        return self.flat([tf.convert_to_tensor(variable) for variable in self.variables])

    def flat(self, tensors: Sequence[Any]) -> tf.Tensor:
        """A tensor for each variable, None for zeros, as one vector (n,)."""
        rows = [
            tf.zeros(size) if tensor is None else tf.cast(tf.reshape(tensor, (size,)), tf.float32)
            for tensor, size in zip(tensors, self.sizes, strict=True)
        ]
        return tf.concat(rows, axis=0)

    def assign(self, values: tf.Tensor) -> None:
        """Gives the variables their values (n,)."""
        for variable, row in zip(self.variables, tf.split(values, self.sizes), strict=True):
            variable.assign(tf.cast(tf.reshape(row, variable.shape), variable.dtype))


def vectors_of(variables: Sequence[Any], alike: Callable[[Any], Any] = lambda _: True) -> Iterator[Vector]:
    """Vectors that hold all variables, Keras's or TensorFlow's; those of one have the same `alike`."""
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
