"""Proxies against numpy, on networks small enough to write down."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.short_trials import block_net
from support.tiny import tiny_cells, tiny_detector

from effkeras.building.models import build_spec
from effkeras.layers import Normalize
from effkeras.search.evaluation import proxies
from effkeras.search.evaluation.proxies import as_accuracy, proxies_of, synflow
from effkeras.search.evaluation.settings import PROXIES


def small_net() -> keras.Model:
    """A 1x1 convolution to four channels, ReLU, the mean, three classes."""
    x = keras.Input((4, 4, 3), name="image")
    y = Normalize((100.0,) * 3, (50.0,) * 3)(x)
    y = keras.layers.Conv2D(4, 1, name="mix")(y)
    y = keras.layers.Activation("relu")(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    y = keras.layers.Dense(3, name="logits")(y)
    return keras.Model(x, keras.layers.Activation("softmax", name="probabilities")(y))


def test_synflow_is_the_flow_through_positive_weights():
    model = small_net()
    mix = model.get_layer("mix").weights[0].numpy()[0, 0]
    dense = model.get_layer("logits").weights[0].numpy()
    # R = sum_c sum_h (sum_i |m_ih|) |d_hc| for an input of ones: each layer's |w * dR/dw| sums to R again.
    flow = float(np.abs(mix).sum(0) @ np.abs(dense).sum(1))
    assert synflow(model) == pytest.approx(2 * flow, rel=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        block_net("r1_k3_s2_e3_i8_o8_se0.25", "r1_k5_s2_e3_i8_o16", survival=0.5),
        pytest.param(tiny_cells(), marks=pytest.mark.nightly("zoo")),
        pytest.param(tiny_detector(), marks=pytest.mark.slow),
    ],
    ids=["blocks", "cells", "detector"],
)
def test_all_proxies_are_given_together(spec):
    found = proxies_of(spec)
    assert tuple(found) == PROXIES
    assert all(np.isfinite(value) and value > 0 for value in found.values())
    assert proxies_of(spec) == pytest.approx(found, rel=1e-3)
    trained = sum(int(np.prod(weight.shape)) for weight in build_spec(spec).trainable_weights)
    assert found["parameters"] == trained


def test_no_network_is_built_to_count(monkeypatch):
    monkeypatch.setattr(proxies, "build_spec", None)
    found = proxies_of(tiny_detector(), names=["macs"])
    assert found.keys() == {"macs"}
    assert found["macs"] > 0


@pytest.mark.slow
def test_synflow_is_not_stopped_by_bounded_activations():
    specs = [
        block_net("r1_k3_s2_e3_i8_o8_re6", "r2_k5_s2_e3_i8_o16"),
        block_net("r1_k3_s2_e3_i8_o8", "r2_k5_s2_e3_i8_o16", activation="swish"),
    ]
    one, other = (proxies_of(spec)["synflow"] for spec in specs)
    assert one == pytest.approx(other)


def test_in_place_of_an_accuracy_the_order_stays():
    values = [as_accuracy(value) for value in (0.5, 3.0, 40.0, 1e3, 1e6)]
    assert values == sorted(set(values))
    assert 0 <= values[0] < values[-1] < 1
