from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from support.eager import outputs_of_model

from effkeras.layers import (
    FakeQuant,
    FakeQuantConv2D,
    FakeQuantConv2DTranspose,
    FakeQuantDense,
    FakeQuantDepthwiseConv2D,
    FakeQuantFusion,
    FakeQuantSum,
    FakeQuantSwish,
    FastFusion,
)

RANDOM = np.random.default_rng(0)


def batch(low: float = -1, high: float = 2) -> np.ndarray:
    return RANDOM.uniform(low, high, (4, 5, 3)).astype(np.float32)


def numbers(x) -> np.ndarray:
    return keras.ops.convert_to_numpy(x)


@settings(deadline=None, max_examples=30)
@given(low=st.floats(-50, 0), high=st.floats(0.1, 50))
def test_values_lie_on_256_levels_that_hold_zero(low, high):
    layer = FakeQuant(mode="fixed", extent=(low, high))
    layer.build(None)
    step = (layer.limits()[1] - layer.limits()[0]) / 255
    x = np.linspace(low - 1, high + 1, 999).astype(np.float32)
    levels = numbers(layer(x)) / step
    np.testing.assert_allclose(levels, np.rint(levels), atol=2e-3)
    assert np.ptp(np.rint(levels)) == 255
    assert numbers(layer(np.zeros(1, np.float32)))[0] == 0


def test_averages_follow_training_only_and_take_zero_in():
    layer = FakeQuant(momentum=0.9, extent=(0.0, 0.0))
    x = batch(1, 3)
    layer(x)
    assert layer.limits()[1] < 1e-5
    layer(x, training=True)
    assert layer.limits() == (0, pytest.approx(0.1 * x.max()))
    layer(x, observe=False, training=True)
    assert layer.limits()[1] == pytest.approx(0.1 * x.max())


def test_branches_share_the_range_that_spans_them():
    layer = FakeQuant(branches=2, mode="last")
    layer(batch(-1, 0), branch=0, training=True)
    layer(batch(0, 5), branch=1, training=True)
    low, high = layer.limits()
    assert -1 <= low < -0.8
    assert 4.5 < high <= 5


def test_a_learned_range_gets_gradients_and_comes_back_from_beyond_zero():
    layer = FakeQuant(mode="learned", extent=(0.5, 1.0))
    x = tf.constant(batch(-1, 2))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x))
    low, high = tape.gradient(loss, [layer.low.value, layer.high.value])
    assert float(low[0]) == np.sum(numbers(x) < -0.002)
    assert float(high[0]) == pytest.approx(np.sum(numbers(x) > 1.002), abs=1)


def test_gradients_pass_inside_the_range_only():
    layer = FakeQuant(extent=(-1.0, 1.0))
    x = tf.constant([-2.0, -0.5, 0.7, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x))
    np.testing.assert_array_equal(numbers(tape.gradient(loss, x)), [0, 1, 1, 0])


KERNELS = {
    "conv": (lambda cls, **o: cls(6, 3, padding="same", strides=2, **o), FakeQuantConv2D, (2, 8, 8, 4)),
    "groups": (lambda cls, **o: cls(6, 3, groups=2, **o), FakeQuantConv2D, (2, 8, 8, 4)),
    "depthwise": (
        lambda cls, **o: cls(3, depth_multiplier=2, padding="same", **o),
        FakeQuantDepthwiseConv2D,
        (2, 8, 8, 3),
    ),
    "transposed": (
        lambda cls, **o: cls(5, 3, strides=2, padding="same", **o),
        FakeQuantConv2DTranspose,
        (2, 4, 4, 3),
    ),
    "dense": (lambda cls, **o: cls(6, **o), FakeQuantDense, (2, 5)),
}


@pytest.fixture(params=KERNELS)
def kernel_layer(request):
    make, cls, shape = KERNELS[request.param]
    layer = make(cls, branches=["a", "b"])
    layer.build(shape)
    layer.scale.assign(RANDOM.uniform(0.5, 2, layer.scale.shape) * [[1], [-3]])
    layer.biases.assign(RANDOM.normal(size=layer.biases.shape))
    return layer, make(cls.plain), RANDOM.normal(size=shape).astype(np.float32)


def test_kernels_compute_what_the_plain_layer_does_with_the_rounded_kernel(kernel_layer):
    layer, plain, x = kernel_layer
    plain.build(x.shape)
    for branch in (0, 1):
        plain.set_weights([numbers(layer.folded_kernel(branch)), numbers(layer.biases[branch])])
        np.testing.assert_allclose(numbers(layer(x, branch=branch)), numbers(plain(x)), atol=1e-5)


def test_kernels_have_at_most_255_values_per_channel_in_the_same_codes_for_all_branches(kernel_layer):
    layer, _, _ = kernel_layer
    codes = []
    for branch in (0, 1):
        rows = numbers(layer._rows(layer.folded_kernel(branch)))
        ends = numbers(layer.largest(branch))
        codes.append(rows / ends * 127)
        np.testing.assert_allclose(np.abs(rows).max(axis=0), ends, rtol=1e-6)
        np.testing.assert_allclose(codes[-1], np.rint(codes[-1]), atol=1e-3)
    np.testing.assert_array_equal(np.rint(codes[0]), -np.rint(codes[1]))


def test_layers_come_back_from_their_config_and_files(kernel_layer, tmp_path):
    layer, _, x = kernel_layer
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, FakeQuant(name="r")(layer(inputs, branch=1)))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs_of_model(again, x), outputs_of_model(model, x))


def test_fusion_and_sums_round_what_lies_between():
    inputs = [RANDOM.normal(size=(2, 4, 4, 3)).astype(np.float32) for _ in range(3)]
    exact, fake = FastFusion(), FakeQuantFusion()
    np.testing.assert_allclose(numbers(fake(inputs)), numbers(exact(inputs)), atol=0.08)
    assert len(fake.ranges) == 4
    total = FakeQuantSum(mode="fixed")
    np.testing.assert_allclose(numbers(total(inputs)), sum(inputs), atol=0.03)
    assert len(total.ranges) == 1


def test_swish_has_a_gate_of_256_levels():
    x = np.linspace(-6, 6, 50).astype(np.float32)
    gate = numbers(FakeQuantSwish()(x))[x != 0] / x[x != 0] * 256
    np.testing.assert_allclose(gate, np.rint(gate), atol=1e-3)
    np.testing.assert_allclose(gate / 256, 1 / (1 + np.exp(-x[x != 0])), atol=1 / 200)
