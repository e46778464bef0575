"""Optimizers by name make the steps of Keras's own, with what all of them have in common."""

from __future__ import annotations

import typing

import keras
import numpy as np
import pytest
import tensorflow as tf

from effkeras.layers.batch_norm import use_fused_kernels
from effkeras.training.compiling import schedule_of
from effkeras.training.optimizers import (
    OPTIMIZERS,
    UNDECAYED,
    FlatAdamW,
    OptimizerOptions,
    UpdateRule,
    optimizer_for,
    steps_of,
)
from effkeras.training.settings import TrainSettings


def variables() -> list[keras.Variable]:
    return [keras.Variable([[1.0, -2.0]], name="kernel"), keras.Variable([0.5, 3.0], name="bias")]


def gradients(seed: int) -> list[tf.Tensor]:
    draw = np.random.default_rng(seed)
    return [tf.constant(draw.normal(size=shape), tf.float32) for shape in ((1, 2), (2,))]


def values(those: list[keras.Variable]) -> np.ndarray:
    return np.concatenate([np.ravel(one) for one in those])


def after(optimizer: keras.optimizers.Optimizer, steps: list[list[tf.Tensor]]) -> np.ndarray:
    changed = variables()
    for step in steps:
        optimizer.apply(step, changed)
    return values(changed)


def test_names_are_those_of_the_settings():
    assert set(OPTIMIZERS) == set(typing.get_args(typing.get_type_hints(TrainSettings)["optimizer"]))
    for name in OPTIMIZERS:
        moved = after(optimizer_for(name, 0.1, OptimizerOptions(0.01, 1.0)), [gradients(0)])
        assert (moved != values(variables())).all(), name


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("sgd", lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.2, global_clipnorm=1.0)),
        (
            "rmsprop",
            lambda: keras.optimizers.RMSprop(
                0.1, rho=0.9, momentum=0.9, epsilon=1e-3, weight_decay=0.2, global_clipnorm=1.0
            ),
        ),
        ("lion", lambda: keras.optimizers.Lion(0.1, weight_decay=0.2, global_clipnorm=1.0)),
        ("adamw", lambda: keras.optimizers.AdamW(0.1, weight_decay=0.2, global_clipnorm=1.0)),
    ],
)
def test_steps_are_those_of_keras(name, theirs):
    keras_own = theirs()
    keras_own.exclude_from_weight_decay(var_names=list(UNDECAYED))
    steps = [gradients(seed) for seed in range(3)]
    ours = after(optimizer_for(name, 0.1, OptimizerOptions(0.2, 1.0)), steps)
    np.testing.assert_allclose(ours, after(keras_own, steps), rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_accumulated_steps_are_one_of_their_mean(name):
    options = OptimizerOptions(0.2, 0.3)
    steps = [gradients(seed) for seed in range(6)]
    means = [[sum(parts) / 3 for parts in zip(*steps[first : first + 3], strict=True)] for first in (0, 3)]
    many = optimizer_for(name, 0.1, OptimizerOptions(0.2, 0.3, accumulate=3))
    np.testing.assert_allclose(after(many, steps), after(optimizer_for(name, 0.1, options), means), rtol=1e-5)
    assert int(steps_of(many)) == 6
    waiting = optimizer_for(name, 0.1, OptimizerOptions(0.2, 0.3, accumulate=3))
    np.testing.assert_array_equal(after(waiting, steps[:2]), values(variables()))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_rule_has_a_factor_of_the_learning_rate(name):
    both, slow = variables(), variables()
    slow_only = {slow[0].path: UpdateRule(0.1)}
    optimizer_for(name, 0.1, OptimizerOptions(0.2)).apply(gradients(0), both)
    optimizer_for(name, 0.1, OptimizerOptions(0.2), slow_only).apply(gradients(0), slow)
    moved, start = values(both) - values(variables()), values(variables())
    np.testing.assert_allclose(values(slow) - start, moved * [0.1, 0.1, 1, 1], rtol=1e-3)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_variable_may_be_missing_in_the_first_steps(name):
    """Its first step is then like the first of all."""
    late, fresh = variables(), variables()
    optimizer = optimizer_for(name, 0.1, OptimizerOptions(0.2), {late[0].path: UpdateRule(late=True)})
    optimizer.build(late)
    for seed in range(2):
        optimizer.apply(gradients(seed)[1:], late[1:])
    np.testing.assert_array_equal(late[0], [[1.0, -2.0]])
    optimizer.apply(gradients(2), late)
    optimizer_for(name, 0.1, OptimizerOptions(0.2)).apply(gradients(2), fresh)
    np.testing.assert_allclose(late[0], fresh[0], rtol=1e-5)
    if name == "adamw":
        with pytest.raises(ValueError, match="the variables it was built for"):
            optimizer.apply(gradients(0)[:1], late[:1])


def test_rules_and_accumulation_survive_serialisation():
    made = FlatAdamW(0.1, accumulate=2, rules={"a/kernel": UpdateRule(0.1, True)})
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert (again.accumulate, dict(again.rules)) == (2, {"a/kernel": UpdateRule(0.1, True)})


@pytest.mark.parametrize("name", ["adamw", "rmsprop"])
def test_a_step_that_overflows_changes_only_the_scale(name):
    scaled = optimizer_for(name, 0.1, OptimizerOptions(0.2, 1.0, loss_scaling=True))
    ours = variables()
    scaled.build(ours)
    scale = float(scaled.scale_loss(1.0))
    scaled.apply([gradients(0)[0], tf.constant([np.inf, 0.0])], ours)
    np.testing.assert_array_equal(values(ours), values(variables()))
    assert float(scaled.scale_loss(1.0)) == scale / 2
    scaled.apply([one * scale / 2 for one in gradients(0)], ours)
    plain = after(optimizer_for(name, 0.1, OptimizerOptions(0.2, 1.0)), [gradients(0)])
    np.testing.assert_allclose(values(ours), plain, rtol=1e-5)


def test_float16_trains_with_the_fused_kernel_and_accumulation():
    half = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, strides=2, dtype=half),
            keras.layers.BatchNormalization(dtype=half),
            keras.layers.GlobalAveragePooling2D(dtype=half),
            keras.layers.Dense(2, activation="softmax", dtype="float32"),
        ]
    )
    use_fused_kernels(model)
    options = OptimizerOptions(1e-4, 10.0, accumulate=2, loss_scaling=True)
    model.compile(optimizer_for("adamw", 0.1, options), "sparse_categorical_crossentropy")
    draw = np.random.default_rng(0)
    numbers = draw.integers(0, 2, 16)
    pixels = draw.normal(numbers[:, None, None, None], 1, (16, 8, 8, 3)).astype("float32")
    losses = model.fit(pixels, numbers, batch_size=4, epochs=5, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert 10 <= int(steps_of(model.optimizer)) <= 20  # those that overflowed do not count


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_l2_is_part_of_the_gradient_of_decayed_weights(name):
    """As if the loss had half the squares of the kernel: against gradients with it added by hand."""
    made = optimizer_for(name, 0.1, OptimizerOptions(l2=0.3))
    by_hand = optimizer_for(name, 0.1, OptimizerOptions())
    ours, theirs = variables(), variables()
    for seed in range(3):
        kernel, bias = gradients(seed)
        made.apply([kernel, bias], ours)
        by_hand.apply([kernel + 0.3 * theirs[0], bias], theirs)
    np.testing.assert_allclose(values(ours), values(theirs), rtol=1e-6)


def test_the_epsilon_of_rmsprop():
    """In plain numbers: the first step with a gradient of 2, a decay of 0.9 and epsilon 1."""
    weight = keras.Variable([5.0], name="kernel")
    made = optimizer_for("rmsprop", 0.1, OptimizerOptions(rmsprop_epsilon=1.0))
    made.apply([tf.constant([2.0])], [weight])
    assert float(weight[0]) == pytest.approx(5 - 0.1 * 2 / (0.1 * 4 + 1) ** 0.5)


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_resumed_with_the_settings_of_a_paper(name):
    """The optimizer's variables hold all that the rate and the decay inside the gradient depend on."""
    settings = TrainSettings(epochs=2, schedule="exponential", decays=6.0, warmup_epochs=0.5)
    options = OptimizerOptions(l2=0.3, rmsprop_epsilon=1.0)
    whole, begun, resumed = (optimizer_for(name, schedule_of(settings, 4), options) for _ in range(3))
    wanted, ours = variables(), variables()
    for step in range(8):
        whole.apply(gradients(step), wanted)
        (begun if step < 5 else resumed).apply(gradients(step), ours)
        if step == 4:
            resumed.build(ours)
            for new, old in zip(resumed.variables, begun.variables, strict=True):
                new.assign(old)
    np.testing.assert_array_equal(values(ours), values(wanted))
