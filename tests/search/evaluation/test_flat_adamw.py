"""The short optimizer makes the steps of the one that `compile_for` gives."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from short_trials import block_net

from effkeras.models import build_spec
from effkeras.search.evaluation.flat_adamw import FlatAdamW
from effkeras.training.compiling import compile_for
from effkeras.training.settings import TrainSettings


@pytest.mark.parametrize("clip", [10.0, 0.5], ids=["unclipped", "clipped"])
def test_the_steps_are_keras_own(clip):
    settings = TrainSettings(epochs=3, learning_rate=0.05, weight_decay=0.1, clip_norm=clip)
    theirs, ours = (build_spec(block_net("r1_k3_s1_e3_i8_o8_se0.25")) for _ in range(2))
    ours.set_weights(theirs.get_weights())
    compile_for(theirs, block_net("r1_k3_s1_e3_i8_o8"), settings, 2)
    flat = FlatAdamW(ours.trainable_variables, settings, 2)
    random = np.random.default_rng(0)
    for _ in range(6):
        gradients = [
            tf.constant(random.normal(0, 0.1, one.shape), tf.float32) for one in ours.trainable_variables
        ]
        theirs.optimizer.apply(gradients, theirs.trainable_variables)
        flat.apply(gradients)
    for one, other in zip(theirs.trainable_variables, ours.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5, err_msg=one.path)


def test_no_gradient_is_one_of_zeros():
    settings = TrainSettings(weight_decay=0.0)
    variables = [tf.Variable([1.0, 2.0], name="kernel"), tf.Variable([[3.0]], name="kernel")]
    flat = FlatAdamW(variables, settings, 1)
    flat.apply([None, tf.constant([[1.0]])])
    assert variables[0].numpy().tolist() == [1, 2]
    assert variables[1].numpy().item() < 3


def test_a_weight_that_takes_no_part_is_as_if_the_step_had_not_been():
    """Two weights that take turns end where each ends by itself."""
    settings = TrainSettings(epochs=1, warmup_epochs=0, learning_rate=0.1, weight_decay=0.1)
    turns, alone = tf.Variable([1.0, 1.0], name="kernel"), tf.Variable([1.0], name="kernel")
    both = FlatAdamW([turns], settings, 10**6, lazy=True)  # so long that the learning rate hardly falls
    single = FlatAdamW([alone], settings, 10**6, lazy=True)
    for step, gradient in enumerate([0.3, -0.5, 0.2, 0.7]):
        single.apply([tf.constant([gradient])])
        for turn in range(2):
            both.apply([tf.constant([gradient, 0.0] if turn else [0.0, gradient])])
        np.testing.assert_allclose(turns.numpy(), alone.numpy().repeat(2), rtol=1e-5, err_msg=str(step))
    assert alone.numpy().item() != 1
