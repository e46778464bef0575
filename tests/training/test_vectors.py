"""Variables come back out of their vectors, whatever their shapes and however they are packed."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from effkeras.training import optimizers
from effkeras.training.optimizers import vectors_of

SHAPES = [(3, 2), (), (1,), (2, 1, 2), (5,)]


def some() -> list[tf.Variable]:
    random = np.random.default_rng(0)
    return [
        tf.Variable(random.normal(size=shape).astype("float32"), name=f"v{len(shape)}") for shape in SHAPES
    ]


@pytest.mark.parametrize("most", [100, 6, 1])
def test_all_values_are_there_once_and_come_back(most, monkeypatch):
    monkeypatch.setattr(optimizers, "MOST", most)
    ours, others = some(), some()
    made = list(vectors_of(ours))
    assert sorted(place for vector in made for place in vector.places) == list(range(len(SHAPES)))
    assert all(sum(vector.sizes) <= most or len(vector.sizes) == 1 for vector in made)
    for vector, other in zip(made, vectors_of(others), strict=True):
        wanted = [np.ravel(ours[place]) for place in vector.places]
        np.testing.assert_array_equal(vector.values(), np.concatenate(wanted))
        other.assign(vector.values() * 2)
    for one, two in zip(ours, others, strict=True):
        np.testing.assert_array_equal(one.numpy() * 2, two.numpy())


def test_what_is_not_alike_is_not_together():
    made = list(vectors_of(some(), lambda variable: variable.name[:2] == "v1"))
    assert [vector.places for vector in made] == [(0, 1, 3), (2, 4)]


def test_nothing_is_a_vector_of_zeros():
    (vector,) = vectors_of(some())
    gradients = [tf.ones(()) if place == 1 else None for place in vector.places]
    assert vector.flat(gradients).numpy().tolist() == [0] * 6 + [1] + [0] * 10


def test_other_types_are_kept():
    half = tf.Variable(tf.ones((2,), tf.float16))
    (vector,) = vectors_of([half])
    assert vector.values().dtype == tf.float32
    vector.assign(vector.values() / 2)
    assert half.numpy().tolist() == [0.5, 0.5]
