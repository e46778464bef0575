"""Rounding, ranges and a whole model against what tensorflow-model-optimization made."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support import tfmot_qat
from support.tfmot_answers import SOURCES, answers
from support.tfmot_qat import KERNELS, given

from effkeras.layers.fake_quant import FakeQuant
from effkeras.layers.fake_quant_kernels import FakeQuantConv2D
from quantize.aware.quantization_aware import quantizable
from quantize.specs import QatSpec

# What the reference calls the ranges of what these layers put out.
RANGES = {
    "expand_range": "quant_expand|post_activation",
    "depthwise_range": "quant_depthwise|post_activation",
    "project_range": "quant_project|post_activation",
    "add_range": "quant_add|output",
    "mean_range": "quant_mean|output",
    "logits_range": "quant_logits|post_activation",
}
MOMENTUM = 0.999


@pytest.fixture(scope="module", params=SOURCES)
def wanted(request, tmp_path_factory) -> dict[str, np.ndarray]:
    return answers("qat", request.param, tmp_path_factory.mktemp("tfmot"))


def numbers(x) -> np.ndarray:
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("mode", ["ema", "all", "last"])
def test_ranges_and_rounding(mode, wanted):
    layer = FakeQuant(mode=mode, momentum=MOMENTUM, extent=(0, 0) if mode == "all" else (-6, 6))
    for number, batch in enumerate(given()["batches"]):
        np.testing.assert_array_equal(
            numbers(layer(batch, training=True)), wanted[f"{mode}.{number}.training"]
        )
        np.testing.assert_array_equal(layer.limits(), wanted[f"{mode}.{number}.range"])
        np.testing.assert_array_equal(numbers(layer(batch)), wanted[f"{mode}.{number}.inference"])


def test_kernels(wanted):
    layer = FakeQuantConv2D(6, 3, biased=False)
    layer.build((None, 8, 8, 4))
    layer.kernel.assign(given()["kernel"])
    np.testing.assert_array_equal(numbers(layer.folded_kernel()), wanted["kernel"])


def test_a_whole_model(wanted):
    model = tfmot_qat.network(keras)
    for name in KERNELS:
        model.get_layer(name).set_weights([given()[f"{name}.kernel"], given()[f"{name}.bias"]])
    made = quantizable(model, QatSpec(momentum=MOMENTUM)).model
    entry = made.get_layer("image_range")
    entry.mode = "all"  # as the reference treats the input
    entry.start(0.0, 0.0)
    made.get_layer(
        "logits_range"
    ).mode = "ema"  # the reference averages outputs too; ours keep their extremes
    for batch in given()["images"]:
        made(batch, training=True)
    for ours, theirs in RANGES.items():
        found = [wanted[f"model.{theirs}_{end}:0"] for end in ("min", "max")]
        np.testing.assert_allclose(made.get_layer(ours).limits(), found, rtol=1e-4, atol=1e-5, err_msg=ours)
    low, high = made.get_layer("logits_range").limits()
    steps = (numbers(made(given()["images"][0])) - wanted["model.outputs"]) / (high - low) * 255
    # Sums are rounded in another order; a value in the middle may then fall to either side.
    assert np.abs(steps).max() < 1.01
    assert np.mean(np.abs(steps) > 0.01) < 0.1
