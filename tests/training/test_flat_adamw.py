"""The optimizer on long vectors makes the steps of Keras's own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.tiny import tiny_classifier

from effkeras.building.models import build_spec
from effkeras.training import optimizers
from effkeras.training.compiling import schedule_of
from effkeras.training.optimizers import UNDECAYED, FlatAdamW
from effkeras.training.settings import TrainSettings

SETTINGS = TrainSettings(epochs=3, learning_rate=0.05)


def gradients_for(variables, random: np.random.Generator) -> list[tf.Tensor]:
    return [tf.constant(random.normal(0, 0.1, one.shape), tf.float32) for one in variables]


@pytest.mark.parametrize("most", [2**22, 500], ids=["two vectors", "many vectors"])
@pytest.mark.parametrize("clip", [None, 10.0, 0.5], ids=["free", "unclipped", "clipped"])
def test_the_steps_are_keras_own(clip, most, monkeypatch):
    monkeypatch.setattr(optimizers, "MOST", most)
    theirs, ours = (build_spec(tiny_classifier()) for _ in range(2))
    ours.set_weights(theirs.get_weights())
    rate = schedule_of(SETTINGS, steps=2)
    keras_own = keras.optimizers.AdamW(rate, weight_decay=0.1, global_clipnorm=clip)
    keras_own.exclude_from_weight_decay(var_names=list(UNDECAYED))
    flat = FlatAdamW(rate, weight_decay=0.1, global_clipnorm=clip)
    random = np.random.default_rng(0)
    for _ in range(6):
        gradients = gradients_for(ours.trainable_variables, random)
        keras_own.apply(gradients, theirs.trainable_variables)
        flat.apply(gradients, ours.trainable_variables)
    assert int(flat.iterations) == 6
    assert float(flat.learning_rate) == float(keras_own.learning_rate)
    for one, other in zip(theirs.trainable_variables, ours.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5, err_msg=one.path)


def test_no_gradient_is_one_of_zeros():
    variables = [tf.Variable([1.0, 2.0], name="kernel"), tf.Variable([[3.0]], name="kernel")]
    FlatAdamW(0.1).apply([None, tf.constant([[1.0]])], variables)
    assert variables[0].numpy().tolist() == [1, 2]
    assert variables[1].numpy().item() < 3


def test_all_that_the_next_step_depends_on_is_in_its_variables():
    """A training is resumed by them."""
    whole, resumed = (tf.Variable([1.0, -2.0], name="kernel") for _ in range(2))
    first, second = FlatAdamW(0.1, weight_decay=0.1), FlatAdamW(0.1, weight_decay=0.1)
    for gradient in ([0.3, 0.1], [-0.2, 0.5]):
        first.apply([tf.constant(gradient)], [whole])
    resumed.assign(whole)
    second.build([resumed])
    for ours, theirs in zip(second.variables, first.variables, strict=True):
        ours.assign(theirs)
    for optimizer, variable in ((first, whole), (second, resumed)):
        optimizer.apply([tf.constant([0.4, 0.4])], [variable])
    np.testing.assert_array_equal(whole.numpy(), resumed.numpy())


def test_other_variables_are_refused():
    one, other = tf.Variable([1.0], name="kernel"), tf.Variable([1.0], name="kernel")
    optimizer = FlatAdamW(0.1)
    optimizer.build([one, other])
    for given in ([other, one], [one]):
        with pytest.raises(ValueError, match="the variables it was built for"):
            optimizer.apply([tf.constant([1.0])] * len(given), given)


def test_constraints_are_kept():
    """Models of others may have some."""
    layer = keras.layers.Dense(2, kernel_constraint="non_neg", kernel_initializer="zeros")
    layer.build((None, 3))
    FlatAdamW(0.1).apply([tf.ones((3, 2)), tf.ones(2)], layer.trainable_variables)
    assert float(tf.reduce_min(layer.kernel)) == 0
    assert float(tf.reduce_max(layer.bias)) < 0


def test_a_weight_that_takes_no_part_is_as_if_the_step_had_not_been():
    """Two weights that take turns end where each ends by itself."""
    turns, alone = tf.Variable([1.0, 1.0], name="kernel"), tf.Variable([1.0], name="kernel")
    both, single = (FlatAdamW(0.1, weight_decay=0.1, lazy=True) for _ in range(2))
    for step, gradient in enumerate([0.3, -0.5, 0.2, 0.7]):
        single.apply([tf.constant([gradient])], [alone])
        for turn in range(2):
            both.apply([tf.constant([gradient, 0.0] if turn else [0.0, gradient])], [turns])
        np.testing.assert_allclose(turns.numpy(), alone.numpy().repeat(2), rtol=1e-5, err_msg=str(step))
    assert alone.numpy().item() != 1


def test_a_model_compiled_with_it_is_saved_and_goes_on(tmp_path):
    model = build_spec(tiny_classifier())
    model.compile(FlatAdamW(schedule_of(SETTINGS, 2), 0.1, 1.0), loss="sparse_categorical_crossentropy")
    pixels, labels = np.zeros((4, *model.input.shape[1:]), "float32"), np.arange(4)
    model.fit(pixels, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for one, other in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
