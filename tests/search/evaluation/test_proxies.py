"""Proxies against numpy, on networks small enough to write down."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from short_trials import block_net
from tiny import tiny_cells, tiny_detector

from effkeras.data.classes import spec_for_data
from effkeras.errors import EffkerasError
from effkeras.layers import Normalize
from effkeras.models import build_spec
from effkeras.search.evaluation.pictures import Pictures, open_splits
from effkeras.search.evaluation.proxies import (
    Probe,
    as_accuracy,
    grad_norm,
    naswot,
    probe_of,
    proxies_of,
    synflow,
)
from effkeras.search.evaluation.settings import PROXIES

random = np.random.default_rng(0)
PIXELS = random.uniform(0, 255, (5, 4, 4, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1], np.int32)


def small_net() -> keras.Model:
    """A 1x1 convolution to four channels, ReLU, the mean, three classes."""
    x = keras.Input((4, 4, 3), name="image")
    y = Normalize((100.0,) * 3, (50.0,) * 3)(x)
    y = keras.layers.Conv2D(4, 1, name="mix")(y)
    y = keras.layers.Activation("relu")(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    y = keras.layers.Dense(3, name="logits")(y)
    return keras.Model(x, keras.layers.Activation("softmax", name="probabilities")(y))


def forward(model, pixels):
    """Weights, what enters the ReLU, and the logits."""
    mix, mix_bias = (value.numpy() for value in model.get_layer("mix").weights)
    dense, dense_bias = (value.numpy() for value in model.get_layer("logits").weights)
    before = ((pixels - 100) / 50) @ mix[0, 0] + mix_bias
    pooled = np.maximum(before, 0).mean((1, 2))
    return mix[0, 0], dense, before, pooled, pooled @ dense + dense_bias


def test_synflow_is_the_flow_through_positive_weights():
    model = small_net()
    mix, dense, *_ = forward(model, PIXELS)
    # R = sum_c sum_h (sum_i |m_ih|) |d_hc| for an input of ones: each layer's |w * dR/dw| sums to R again.
    flow = float(np.abs(mix).sum(0) @ np.abs(dense).sum(1))
    assert synflow(model) == pytest.approx(2 * flow, rel=1e-5)


def test_naswot_is_the_log_determinant_of_agreements():
    model = small_net()
    codes = (forward(model, PIXELS)[2] > 0).reshape(5, -1)
    agree = np.array([[np.sum(a == b) for b in codes] for a in codes], float)
    assert naswot(model, tf.constant(PIXELS)) == pytest.approx(np.log(np.linalg.det(agree)), rel=1e-6)


def test_two_equal_pictures_are_no_kernel():
    assert naswot(small_net(), tf.constant(PIXELS[[0, 0]])) == -np.inf


def test_grad_norm_is_that_of_the_cross_entropy():
    model = small_net()
    model.compile(loss="sparse_categorical_crossentropy")
    _, dense, before, pooled, logits = forward(model, PIXELS)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    at_logits = (probabilities - np.eye(3)[LABELS]) / len(LABELS)
    at_dense = pooled.T @ at_logits
    at_before = (at_logits @ dense.T)[:, None, None] / 16 * (before > 0)
    at_mix = np.einsum("bhwi,bhwo->io", (PIXELS - 100) / 50, at_before)
    wanted = np.linalg.norm(at_dense) + np.linalg.norm(at_mix)
    assert grad_norm(model, Probe(tf.constant(PIXELS), LABELS)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    "spec",
    [
        block_net("r1_k3_s2_e3_i8_o8_se0.25", "r1_k5_s2_e3_i8_o16", survival=0.5),
        pytest.param(tiny_cells(), marks=pytest.mark.slow),
        pytest.param(tiny_detector(), marks=pytest.mark.slow),
    ],
    ids=["blocks", "cells", "detector"],
)
def test_all_five_are_given_together(spec, request):
    pictures = Pictures(
        open_splits(request.getfixturevalue("digits" if spec.is_detector else "digit_classes"))
    )
    spec = spec_for_data(spec, pictures.splits.train)
    probe = probe_of(spec, pictures.training(spec), 8)
    assert probe.pixels.shape == (8, *spec.input.size, 3)
    found = proxies_of(spec, probe)
    assert tuple(found) == PROXIES
    assert all(np.isfinite(value) and value > 0 for value in found.values())
    assert proxies_of(spec, probe) == pytest.approx(found, rel=1e-3)
    trained = sum(int(np.prod(weight.shape)) for weight in build_spec(spec).trainable_weights)
    assert found["parameters"] == trained


@pytest.mark.slow
def test_synflow_is_not_stopped_by_bounded_activations(digit_classes):
    pictures = Pictures(open_splits(digit_classes))
    specs = [
        block_net("r1_k3_s2_e3_i8_o8_re6", "r2_k5_s2_e3_i8_o16"),
        block_net("r1_k3_s2_e3_i8_o8", "r2_k5_s2_e3_i8_o16", activation="swish"),
    ]
    probe = probe_of(specs[0], pictures.training(specs[0]), 8)
    one, other = (proxies_of(spec, probe)["synflow"] for spec in specs)
    assert one == pytest.approx(other)


def test_a_network_without_knees_has_no_naswot():
    x = keras.Input((4, 4, 3))
    with pytest.raises(EffkerasError, match="no activation with a knee"):
        naswot(keras.Model(x, keras.layers.Dense(2)(x)), tf.constant(PIXELS))


@pytest.mark.parametrize("name", PROXIES)
def test_in_place_of_an_accuracy_the_order_stays(name):
    values = [as_accuracy(name, value) for value in (0.5, 3.0, 40.0, 1e3, 1e6)]
    assert values == sorted(set(values))
    assert 0 <= values[0] < values[-1] < 1
