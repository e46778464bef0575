"""The controller's network: its numbers and gradients are Keras', and the gradients those of differences."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from effkeras.search.strategies.controller import Lstm

SIZES = (3, 5, 1, 4)


def network(seed, units=4, sizes=SIZES):
    policy = Lstm(sizes, units, np.random.default_rng(seed))
    random = np.random.default_rng(seed + 1)
    for array in policy.parameters.values():  # from the almost linear start into the gates' curves
        array += random.normal(0, 0.7, array.shape)
    return policy


def choices_of(seed, batch, sizes=SIZES):
    return np.random.default_rng(seed).integers(sizes, size=(batch, len(sizes)))


def loss(policy, choices, by):
    """Any smooth function of the logits there are."""
    logits, passed = policy.logits(choices)
    there = np.isfinite(logits)
    return float((np.sin(logits, where=there, out=np.zeros_like(logits)) * by).sum()), logits, there, passed


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 5))
def test_gradients_are_those_of_differences(seed, batch, units):
    policy, choices = network(seed, units), choices_of(seed, batch)
    by = np.random.default_rng(seed + 2).normal(size=(batch, len(SIZES), max(SIZES)))
    _, logits, there, passed = loss(policy, choices, by)
    found = policy.gradients(passed, np.where(there, np.cos(np.where(there, logits, 0)) * by, 0.0))
    random = np.random.default_rng(seed + 3)
    for name, array in policy.parameters.items():
        way, step, kept = random.normal(size=array.shape), 1e-5, array.copy()
        array += step * way
        above = loss(policy, choices, by)[0]
        array[...] = kept - step * way
        below = loss(policy, choices, by)[0]
        array[...] = kept
        assert (above - below) / (2 * step) == pytest.approx((found[name] * way).sum(), rel=1e-5, abs=1e-7), (
            name
        )


def by_keras(policy, choices):
    """The same network of Keras' LSTM in float64: its logits and a tape with all variables."""
    units = policy.parameters["start"].shape[0]
    layer = keras.layers.LSTM(units, return_sequences=True, dtype="float64")
    layer.build((None, None, units))
    variables = {name: tf.Variable(array) for name, array in policy.parameters.items()}
    for own, name in zip(layer.weights, ("kernel", "recurrent", "bias"), strict=True):
        own.assign(variables[name])
    with tf.GradientTape() as tape:
        embedded = [
            tf.gather(variables["embedding"][gene], choices[:, gene]) for gene in range(choices.shape[1] - 1)
        ]
        start = tf.broadcast_to(variables["start"], (len(choices), units))
        hidden = layer(tf.stack([start, *embedded], axis=1))
        logits = tf.einsum("bgu,guc->bgc", hidden, variables["head"]) + variables["head_bias"]
        total = tf.reduce_sum(tf.sin(logits) * np.isfinite(policy.logits(choices)[0]))
    sources = variables | dict(
        zip(("kernel", "recurrent", "bias"), [w.value for w in layer.weights], strict=True)
    )
    return logits.numpy(), tape.gradient(total, sources)


def test_logits_and_gradients_are_those_of_keras():
    policy, choices = network(3, units=6), choices_of(4, batch=5)
    logits, passed = policy.logits(choices)
    there = np.isfinite(logits)
    assert (there == (np.arange(max(SIZES)) < np.array(SIZES)[:, None])).all()
    theirs, gradients = by_keras(policy, choices)
    np.testing.assert_allclose(logits[there], theirs[there], rtol=1e-10)
    found = policy.gradients(passed, np.where(there, np.cos(np.where(there, logits, 0)), 0.0))
    assert set(found) == set(gradients)
    for name, ours in found.items():
        np.testing.assert_allclose(
            ours, tf.convert_to_tensor(gradients[name]), rtol=1e-8, atol=1e-12, err_msg=name
        )


def test_draws_follow_the_probabilities_of_the_way_taken():
    sizes = (2, 3)
    policy = network(7, units=3, sizes=sizes)
    drawn = policy.draw(np.random.default_rng(0), 20_000)
    logits, _ = policy.logits(drawn.choices)
    chances = np.where(np.isfinite(logits), np.exp(logits), 0)
    chances /= chances.sum(axis=-1, keepdims=True)
    taken = np.take_along_axis(chances, drawn.choices[..., None], -1)[..., 0]
    np.testing.assert_allclose(np.exp(drawn.logs), taken, rtol=1e-10)
    for first in range(2):
        for second in range(3):
            rows = (drawn.choices == (first, second)).all(axis=1)
            chance = taken[rows][0].prod()
            assert rows.mean() == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 20_000) ** 0.5)
    assert drawn.choices.max(axis=0).tolist() == [1, 2]


def test_a_choice_depends_on_those_before_it_only():
    policy, one = network(1), choices_of(0, batch=1)
    other = one.copy()
    other[0, 1] = (other[0, 1] + 1) % SIZES[1]
    before, after = policy.logits(one)[0], policy.logits(other)[0]
    assert (before[0, :2] == after[0, :2]).all()
    assert not np.allclose(before[0, 2, 0], after[0, 2, 0])
