from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.own_networks import outputs_of, own_images, own_network
from support.tiny_models import decibels

import effkeras
from effkeras import EffkerasError
from effkeras.data.splits import open_data
from effkeras.inference.evaluate import evaluate
from effkeras.inference.predictor import KerasPredictor
from effkeras.litert.runner import LiteRTModel
from export.benchmarks.random_models import rescaled
from quantize import equalize, ptq
from quantize.post_training.calibration import Sampling, calibration_inputs
from quantize.specs import PtqSpec

MODELS = Path(__file__).parents[3] / "models"
IMAGES = own_images(16)
ACTIVATIONS = ("relu", "relu6", "swish")


def int8_decibels(model: keras.Model, **how) -> float:
    made = ptq(model, "int8", IMAGES, spec=PtqSpec(**how))
    return decibels(outputs_of_model(model, IMAGES), outputs_of(made.flatbuffer, IMAGES))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_function_stays_the_same(activation):
    model = own_network(activation)
    equal = equalize(model, IMAGES[:, None])
    wanted = outputs_of_model(model, IMAGES)
    assert np.abs(outputs_of_model(equal.model, IMAGES) - wanted).max() < 1e-3 * wanted.std()
    assert equal.report.figures["output error"] < 1e-3


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_what_a_rescaling_breaks_is_mended(activation):
    model = own_network(activation)
    broken = rescaled(model, IMAGES[:, None], largest=1000, everywhere=True)
    wanted = outputs_of_model(model, IMAGES)
    assert np.abs(outputs_of_model(broken, IMAGES) - wanted).max() < 1e-3 * wanted.std()
    plain, lost = int8_decibels(model), int8_decibels(broken)
    mended = int8_decibels(broken, equalize=True)
    assert lost < plain - 10
    assert mended > plain - 6


def test_equal_models_are_equal_however_they_were_rescaled():
    first, second = (
        equalize(one, IMAGES[:, None]).model
        for one in (
            own_network("relu"),
            rescaled(own_network("relu"), IMAGES[:, None], largest=1000, everywhere=True),
        )
    )
    for name in ("first", "depthwise"):
        ours, theirs = (np.abs(one.get_layer(name).get_weights()[0]) for one in (first, second))
        ratio = (ours / theirs).ravel()
        typical = np.median(ratio)  # channels that relu never lets through stay as they are
        assert np.isclose(ratio, typical, rtol=2e-2).mean() > 0.7


def test_ranges_before_a_depthwise_layer_become_one():
    equal = equalize(own_network("relu"), IMAGES[:, None]).model
    tap = keras.Model(equal.input, equal.get_layer("first_act").output)
    largest = outputs_of_model(tap, IMAGES).max(axis=(0, 1, 2))
    used = largest[largest > 0]
    assert used.max() / used.min() == pytest.approx(1, rel=1e-3)


def test_no_channel_is_brought_to_the_cap():
    equal = equalize(own_network("relu6"), IMAGES[:, None]).model
    for name in ("first", "depthwise"):
        before = outputs_of_model(keras.Model(equal.input, equal.get_layer(name).output), IMAGES)
        original = own_network("relu6").get_layer(f"{name}_bn").output
        reached = outputs_of_model(keras.Model(own_network("relu6").input, original), IMAGES)
        free = reached.max(axis=(0, 1, 2)) < 4.8
        assert before.max(axis=(0, 1, 2))[free].max(initial=0) <= 4.8 * (1 + 1e-4)


def test_every_layer_with_weights_has_an_entry_and_swish_its_reason():
    report = equalize(own_network("swish"), IMAGES[:, None]).report
    reasons = {layer.name: layer.why for layer in report.layers}
    assert "silu" in reasons["first"] or "swish" in reasons["first"]
    assert {"first", "depthwise", "project", "last"} <= reasons.keys()
    assert "the model puts its output out" in reasons["last"]


def test_a_mended_model_needs_images():
    with pytest.raises(EffkerasError, match="there are none"):
        equalize(own_network(), [])
    for what in ("equalize", "correct_bias", "errors"):
        with pytest.raises(EffkerasError, match="give --data DIR"):
            ptq(own_network(), "dynamic", spec=PtqSpec(**{what: True}))


@pytest.mark.slow
def test_the_shipped_detector_survives_a_rescaling(tmp_path):
    from support.tiny import digits_folder

    root = digits_folder(tmp_path / "digits", train=48, val=60, test=1, size=128)
    model = effkeras.load(MODELS / "efficientdet" / "digits.keras")
    inputs = calibration_inputs(
        open_data(root, "train"), effkeras.spec("efficientdet-digits").input, (), Sampling(48)
    )
    pixels = np.concatenate(list(inputs))
    broken, check = rescaled(model, pixels[:, None]), open_data(root, "val")
    wanted = evaluate(KerasPredictor.of(broken), check)["AP"]
    lost = ptq(broken, "int8", inputs)
    mended = ptq(broken, "int8", inputs, spec=PtqSpec(equalize=True))
    assert wanted - evaluate(LiteRTModel.of_bytes(lost.flatbuffer), check)["AP"] > 0.1
    assert wanted - evaluate(LiteRTModel.of_bytes(mended.flatbuffer), check)["AP"] < 0.02
