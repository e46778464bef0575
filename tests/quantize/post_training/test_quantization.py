from __future__ import annotations

import json

import numpy as np
import pytest
from support.tiny_models import (
    CLASSIFIERS,
    DETECTORS,
    decibels,
    keras_outputs,
    quantized,
    random_images,
    tiny_model,
    tiny_spec,
)

from effkeras import EffkerasError
from effkeras.definitions.definition import InputSpec
from effkeras.litert.flatbuffer import operators
from effkeras.litert.rewriting import attached
from effkeras.litert.runner import RECIPE, LiteRTModel, definition_of
from quantize import ptq
from quantize.post_training.quantization import is_absorbable

LITE, SWISH = DETECTORS
# Against the Keras model, on images that calibration has seen.
LOWEST_DECIBELS = {"float32": 110, "fp16": 54, "dynamic": 26, "int8": 22}


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        *((LITE, recipe) for recipe in LOWEST_DECIBELS),
        *(pytest.param(SWISH, recipe, marks=pytest.mark.slow) for recipe in ("float32", "int8")),
        *(pytest.param(SWISH, recipe, marks=pytest.mark.nightly("zoo")) for recipe in ("fp16", "dynamic")),
    ],
)
def test_outputs_stay_close(name, recipe):
    wanted = keras_outputs(tiny_model(name), random_images(8))
    got = LiteRTModel.of_bytes(quantized(name, recipe).flatbuffer)(random_images(8))
    for output, values in wanted.items():
        assert decibels(values, got[output]) > LOWEST_DECIBELS[recipe]


def test_sizes_shrink_recipe_by_recipe():
    sizes = {recipe: len(quantized(LITE, recipe).flatbuffer) for recipe in LOWEST_DECIBELS}
    assert sizes["float32"] > sizes["fp16"] > sizes["dynamic"]
    assert sizes["fp16"] < 0.7 * sizes["float32"]


@pytest.mark.parametrize("name", [LITE, CLASSIFIERS[0], pytest.param(SWISH, marks=pytest.mark.slow)])
@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_int8_has_no_float_at_all(name, io):
    made = quantized(name, "int8", io)
    assert made.left_in_float == ()
    dtypes = {t.dtype for op in operators(made.flatbuffer) for t in (*op.inputs, *op.outputs)}
    assert dtypes <= {"int8", "uint8", "int32"}


def test_float_inputs_and_outputs_keep_normalization_exact_and_say_so():
    left = quantized(LITE, "int8").left_in_float
    assert {(layer.op, layer.name) for layer in left} == {("MUL", "normalize"), ("ADD", "normalize")}
    assert all("normalised exactly" in layer.why for layer in left)


def test_a_classifier_with_float_output_keeps_its_softmax():
    left = {layer.op: layer.why for layer in quantized(CLASSIFIERS[0], "int8").left_in_float}
    assert "1/256" in left["SOFTMAX"]
    probabilities = LiteRTModel.of_bytes(quantized(CLASSIFIERS[0], "int8").flatbuffer)(random_images(2))
    np.testing.assert_allclose(probabilities["probabilities"].sum(axis=-1), 1, atol=1e-5)


def test_dynamic_keeps_depthwise_in_float_and_says_why():
    left = quantized(LITE, "dynamic").left_in_float
    reasons = {layer.why for layer in left if layer.op == "DEPTHWISE_CONV_2D"}
    assert len(reasons) == 1
    assert "XNNPACK" in reasons.pop()
    assert not [layer for layer in left if layer.op == "CONV_2D"]


@pytest.mark.parametrize(
    ("name", "scale", "zero_point"),
    [(LITE, 1 / 128, -1), pytest.param(SWISH, 1.0, -128, marks=pytest.mark.slow)],
)
def test_the_input_is_the_pixel_itself(name, scale, zero_point):
    spec = tiny_spec(name).input
    for io, shift in (("int8", 0), ("uint8", 128)):
        model = LiteRTModel.of_bytes(quantized(name, "int8", io).flatbuffer)
        (detail,) = model.interpreter.get_input_details()
        assert detail["quantization"] == (scale, zero_point + shift)
    pixels = np.arange(256)
    real = ((pixels - 128) - zero_point) * scale
    wanted = (pixels - spec.mean[0]) / spec.std[0] if is_absorbable(spec) else pixels
    np.testing.assert_array_equal(real, wanted)


def test_detector_outputs_have_scales_of_their_own():
    model = LiteRTModel.of_bytes(quantized(LITE, "int8", "int8").flatbuffer)
    details = model.interpreter.get_signature_runner().get_output_details()
    assert details["class_logits"]["quantization"] != details["box_deltas"]["quantization"]


def test_what_is_absorbable():
    def spec(mean: tuple, std: tuple) -> InputSpec:
        return InputSpec((64, 64), mean, std, "letterbox")

    assert is_absorbable(spec((127.0,) * 3, (128.0,) * 3))
    assert not is_absorbable(spec((127.5,) * 3, (127.5,) * 3))
    assert not is_absorbable(spec((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)))


def test_definition_and_recipe_travel_along():
    flatbuffer = quantized(LITE, "int8", "uint8").flatbuffer
    assert definition_of(flatbuffer) == tiny_spec(LITE)
    used = json.loads(attached(flatbuffer, RECIPE))
    assert (used["name"], used["io"]) == ("int8", "uint8")


def test_every_operator_has_a_note():
    made = quantized(LITE, "int8")
    graph = operators(made.flatbuffer)
    assert [layer.op for layer in made.layers] == [op.name for op in graph]


def test_bad_requests_are_refused_before_any_work():
    model = tiny_model(LITE)
    with pytest.raises(EffkerasError, match="give --data DIR"):
        ptq(model, "int8")
    with pytest.raises(EffkerasError, match="did you mean"):
        ptq(model, "int9")
    with pytest.raises(EffkerasError, match="computes activations in float32"):
        ptq(model, "fp16", io="uint8")
