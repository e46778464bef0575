"""Both tools on the same networks: as close to the float model, and to one another, as the format allows."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from support.eager import outputs_of_model
from support.own_networks import outputs_of, own_images, own_network
from support.tiny_models import decibels, keras_outputs, parts, random_images, tiny_model

from effkeras import EffkerasError
from effkeras.litert.flatbuffer import operators
from effkeras.litert.runner import LiteRTModel
from quantize import ptq
from quantize.formats import find
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import quantize_pixels
from quantize.specs import PtqSpec

LITE = "efficientdet-lite0"
BACKENDS = ("ai-edge-quantizer", "tensorflow")
# Against the Keras model, on images that calibration has seen.
LOWEST_DECIBELS = {"fp16": 54, "dynamic": 24, "int8": 22, "w8a16": 26}


@functools.cache
def made(recipe: str, backend: str) -> bytes:
    spec = PtqSpec(backend=backend)
    return ptq(own_network(), recipe, own_images(16), spec=spec).flatbuffer


@pytest.mark.parametrize("recipe", LOWEST_DECIBELS)
def test_both_tools_stay_close_to_the_model_and_to_one_another(recipe):
    wanted = outputs_of_model(own_network(), own_images(16))
    ours, theirs = (outputs_of(made(recipe, backend), own_images(16)) for backend in BACKENDS)
    for first, second in ((wanted, ours), (wanted, theirs), (ours, theirs)):
        assert decibels(first, second) > LOWEST_DECIBELS[recipe]


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_bits_are_closer(backend):
    wanted = outputs_of_model(own_network(), own_images(16))
    found = {
        recipe: decibels(wanted, outputs_of(made(recipe, backend), own_images(16)))
        for recipe in LOWEST_DECIBELS
    }
    assert found["fp16"] > found["w8a16"] > found["int8"] + 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_int16_activations_are_int16(backend):
    dtypes = {op.outputs[0].dtype for op in operators(made("w8a16", backend)) if op.name == "CONV_2D"}
    assert dtypes == {"int16"}


def test_int4_weights_where_there_are_kernels():
    graph = operators(made("int4", BACKENDS[0]))
    kinds = {
        (op.name, op.inputs[1].dtype) for op in graph if "CONV" in op.name or op.name == "FULLY_CONNECTED"
    }
    assert kinds == {("CONV_2D", "int4"), ("FULLY_CONNECTED", "int4"), ("DEPTHWISE_CONV_2D", "int8")}
    wanted = outputs_of_model(own_network(), own_images(16))
    assert decibels(wanted, outputs_of(made("int4", BACKENDS[0]), own_images(16))) > 8


def test_dynamic_int4_computes_in_float():
    graph = operators(made("dynamic-int4", BACKENDS[0]))
    assert {op.inputs[1].dtype for op in graph if op.name == "CONV_2D"} == {"int4"}
    assert {op.outputs[0].dtype for op in graph} == {"float32"}


@pytest.mark.slow
@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_tensorflow_takes_the_pixel_itself_too(io):
    options = PtqOptions(find("int8"), io, spec=PtqSpec(backend="tensorflow"))
    quantized = quantize_pixels(parts(LITE, "int8"), options, random_images(8)[:, None])
    model = LiteRTModel.of_bytes(quantized.flatbuffer)
    (detail,) = model.interpreter.get_input_details()
    assert detail["quantization"] == (1 / 128, -1 if io == "int8" else 127)
    wanted = keras_outputs(tiny_model(LITE), random_images(8))
    got = model(random_images(8))
    for name, values in wanted.items():
        assert decibels(values, got[name]) > 18
    assert {layer.op for layer in quantized.left_in_float} <= {"RESHAPE", "ADD"}  # sums of three maps


@pytest.mark.parametrize(
    ("recipe", "changes", "what"),
    [
        ("int4", {}, "4-bit weights"),
        ("dynamic-int4", {}, "4-bit weights"),
        ("int8", {"ranges": "mse"}, "ranges by mse"),
        ("int8", {"correct_bias": True}, "correct_bias"),
    ],
)
def test_what_tensorflow_cannot_do_is_said(recipe, changes, what):
    spec = PtqSpec(backend="tensorflow", **changes)
    with pytest.raises(EffkerasError, match=f"quantizer tensorflow cannot do .*{what}.*ai-edge-quantizer"):
        ptq(own_network(), recipe, own_images(2), spec=spec)


def test_an_unknown_backend_gets_a_hint():
    with pytest.raises(EffkerasError, match="did you mean 'tensorflow'"):
        ptq(own_network(), "int8", own_images(2), spec=PtqSpec(backend="tensorflo"))


def test_the_model_stays_as_it_is():
    before = [weight.numpy() for weight in own_network().weights]
    made("int8", "tensorflow")
    made("int8", BACKENDS[0])
    for old, weight in zip(before, own_network().weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


def test_quantizing_runs_no_network(monkeypatch):
    """To see whether ranges are complete, the tool would hold all activations, too many for those of D7."""
    from ai_edge_quantizer.utils import tfl_interpreter_utils

    def refused(*given, **named):
        raise AssertionError("an interpreter was made")

    monkeypatch.setattr(tfl_interpreter_utils, "create_tfl_interpreter", refused)
    assert ptq(own_network(), "int8", own_images(2)).flatbuffer
