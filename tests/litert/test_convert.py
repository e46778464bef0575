from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.tiny_models import (
    CLASSIFIERS,
    DETECTORS,
    SIDE,
    keras_outputs,
    quantized,
    random_images,
    tiny_model,
)

from effkeras import EffkerasError
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.flatbuffer import layer_of, operators
from effkeras.litert.runner import LiteRTModel, make_interpreter


def run(flatbuffer: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
    runner = make_interpreter(flatbuffer).get_signature_runner("serving_default")
    return runner(image=pixels)


@pytest.mark.parametrize("name", DETECTORS + CLASSIFIERS)
def test_computes_what_the_model_computes(name):
    model = tiny_model(name)
    wanted = keras_outputs(model, random_images(2))
    got = LiteRTModel.of_bytes(quantized(name, "float32").flatbuffer)(random_images(2))
    assert got.keys() == wanted.keys()
    for output, values in wanted.items():
        assert np.abs(got[output] - values).max() < 1e-4 * values.std()


@pytest.mark.parametrize("name", DETECTORS + CLASSIFIERS)
def test_no_trace_of_variables_batch_norm_or_dynamic_shapes(name):
    graph = operators(quantized(name, "float32").flatbuffer)
    names = {op.name for op in graph}
    assert not names & {
        "VAR_HANDLE",
        "READ_VARIABLE",
        "BATCH_MATMUL",
        "SHAPE",
        "PACK",
        "TILE",
        "SUB",
        "RSQRT",
    }
    assert not any(name.startswith("Flex") for name in names)
    plain = [op for op in graph if op.name in ("MUL", "ADD")]
    assert not [op for op in plain if "_bn" in layer_of(op.outputs[0].name)]


def test_lite_multiplies_only_to_normalise():
    graph = operators(quantized("efficientdet-lite0", "float32").flatbuffer)
    assert [layer_of(op.outputs[0].name) for op in graph if op.name == "MUL"] == ["normalize"]


def test_without_normalization_it_takes_normalised_pixels():
    model = tiny_model("efficientdet-lite0")
    flatbuffer = to_flatbuffer(model, skip_normalization=True)
    wanted = keras_outputs(model, random_images(1))
    got = run(flatbuffer, (random_images(1) - 127) / 128)
    for output, values in wanted.items():
        assert np.abs(got[output] - values).max() < 1e-4 * values.std()


def test_edges_bear_the_names_of_the_signature():
    graph = operators(quantized("efficientdet-lite0", "float32").flatbuffer)
    assert graph[0].inputs[0].name == "image"
    made = {tensor.name for op in graph for tensor in op.outputs}
    assert {"class_logits", "box_deltas"} <= made


def test_a_model_in_bfloat16_is_converted_in_float32():
    pixels = keras.Input((SIDE, SIDE, 3))
    policy = "mixed_bfloat16"
    y = keras.layers.Conv2D(4, 3, strides=2, dtype=policy)(pixels)
    y = keras.layers.BatchNormalization(dtype=policy)(y)
    y = keras.layers.Activation("linear", dtype="float32", name="scores")(y)
    flatbuffer = to_flatbuffer(keras.Model(pixels, y))
    assert {tensor.dtype for op in operators(flatbuffer) for tensor in op.outputs} == {"float32"}
    assert list(run(flatbuffer, random_images(1))) == ["scores"]


def test_open_sizes_are_refused():
    pixels = keras.Input((None, None, 3))
    model = keras.Model(pixels, keras.layers.Conv2D(4, 3)(pixels))
    with pytest.raises(EffkerasError, match="fixed height and width"):
        to_flatbuffer(model)


def test_there_must_be_a_normalization_to_leave_out():
    pixels = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(pixels, keras.layers.Conv2D(4, 3)(pixels))
    with pytest.raises(EffkerasError, match="Normalize"):
        to_flatbuffer(model, skip_normalization=True)


def test_the_converter_is_silent(capfd):
    pixels = keras.Input((8, 8, 3))
    to_flatbuffer(keras.Model(pixels, keras.layers.Conv2D(2, 3)(pixels)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_operators_are_those_of_a_saved_model():
    model = tiny_model("efficientdet-d0")
    shape = (1, SIDE, SIDE, 3)
    call = tf.function(lambda image: model(image), input_signature=[tf.TensorSpec(shape, name="image")])
    holder = tf.Module()
    holder.variables_of_model = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], holder)
    theirs = sorted(op.name for op in operators(converter.convert()))
    assert sorted(op.name for op in operators(quantized("efficientdet-d0", "float32").flatbuffer)) == theirs
