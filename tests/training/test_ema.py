"""The averaged weights follow their formula, batch normalisation's statistics included."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from effkeras.training.callbacks import AveragedWeights, averaged


def small_model(every: int | None = None) -> keras.Model:
    x = keras.Input((3,))
    y = keras.layers.BatchNormalization()(keras.layers.Dropout(0.5)(keras.layers.Dense(2)(x)))
    model = keras.Model(x, y)
    model.compile(keras.optimizers.SGD(0.5, gradient_accumulation_steps=every), "mse")
    return model


@pytest.mark.parametrize("decay", [0.998, 0.05])
def test_average_is_the_formula(decay):
    model, other = small_model(), small_model()
    average = AveragedWeights(model, decay)
    average.set_model(model)
    expected = [np.asarray(weight).copy() for weight in averaged(model)]
    rng = np.random.default_rng(0)
    for step in range(1, 4):
        model.train_on_batch(rng.normal(size=(8, 3)), rng.normal(size=(8, 2)))
        average.on_train_batch_end(step)
        now = min(decay, (1 + step) / (10 + step))
        weights = [np.asarray(weight) for weight in averaged(model)]
        expected = [now * old + (1 - now) * new for old, new in zip(expected, weights, strict=True)]
    average.copy_to(other)
    for ours, theirs in zip(averaged(other), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_averages_once_an_update():
    """Not once a step, where several steps make an update."""
    model = small_model(every=2)
    average = AveragedWeights(model, 0.9, every=2)
    average.set_model(model)
    seen = [values.numpy() for values in average.values]
    for step in range(1, 5):
        model.train_on_batch(np.ones((8, 3)), np.ones((8, 2)))
        average.on_train_batch_end(step)
        before, seen = seen, [values.numpy() for values in average.values]
        same = all(map(np.array_equal, before, seen))
        assert same == (step % 2 == 1)


def test_statistics_are_averaged_and_random_states_are_not():
    model = small_model()
    paths = {weight.path.rsplit("/", 1)[-1] for weight in averaged(model)}
    assert {"moving_mean", "moving_variance", "kernel"} <= paths
    assert not any("seed" in path for path in paths)


def test_copy_gives_another_model_the_average():
    model, other = small_model(), small_model()
    average = AveragedWeights(model, 0.9)
    average.copy_to(other)
    for ours, theirs in zip(averaged(model), averaged(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
