"""Metadata entries, uint8 inputs and outputs, replaced constants, more outputs, no last activation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from support.eager import outputs_of_model
from support.tiny_models import keeping_all, quantized, random_images

from effkeras import EffkerasError
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.flatbuffer import operators, real_constants
from effkeras.litert.rewriting import (
    attach,
    attached,
    with_constants,
    with_outputs,
    with_uint8_io,
    without_final_activation,
)
from effkeras.litert.runner import DEFINITION, LiteRTModel, make_interpreter
from quantize.precision.measurements import run_all

NAME = "efficientdet-lite0"


def weights(flatbuffer: bytes) -> list[bytes]:
    parsed = flatbuffer_utils.read_model_from_bytearray(flatbuffer)
    graph = parsed.subgraphs[0]
    data = [parsed.buffers[tensor.buffer].data for tensor in graph.tensors]
    return [b"" if one is None else bytes(one) for one in data]


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_what_is_attached_comes_back_and_the_weights_stay(recipe):
    plain = quantized(NAME, recipe).flatbuffer
    once = attach(plain, "labels", b"cat\ndog\n")
    assert attached(once, "labels") == b"cat\ndog\n"
    assert weights(once) == weights(plain)
    assert operators(once) == operators(plain)


def test_attaching_again_replaces_and_keeps_others():
    plain = quantized(NAME, "int8").flatbuffer
    twice = attach(attach(plain, "labels", b"what was there before"), "labels", b"new")
    assert attached(twice, "labels") == b"new"
    assert attached(twice, DEFINITION) == attached(plain, DEFINITION)
    assert attached(twice, "min_runtime_version") == attached(plain, "min_runtime_version") is not None
    assert b"what was there before" not in twice


def test_nothing_attached_is_none_and_empty_is_empty():
    plain = quantized(NAME, "float32").flatbuffer
    assert attached(plain, "labels") is None
    assert attached(attach(plain, "labels", b""), "labels") == b""


def test_weights_lie_at_multiples_of_16_bytes():
    flatbuffer = quantized(NAME, "int8").flatbuffer
    start = np.frombuffer(flatbuffer, np.uint8).ctypes.data
    parsed = flatbuffer_utils.convert_bytearray_to_object(flatbuffer)
    data = [buffer.data for buffer in parsed.buffers if buffer.data is not None and len(buffer.data)]
    assert {(one.ctypes.data - start) % 16 for one in data} == {0}


def test_uint8_io_change_no_result():
    int8 = LiteRTModel.of_bytes(quantized(NAME, "int8", "int8").flatbuffer)
    uint8 = LiteRTModel.of_bytes(with_uint8_io(int8.flatbuffer))
    for image in random_images(3):
        wanted, got = int8.raw(image), uint8.raw(image)
        assert wanted.keys() == got.keys()
        for name, values in wanted.items():
            assert got[name].dtype == np.uint8
            np.testing.assert_array_equal(got[name].astype(int) - 128, values)
    for name, values in int8(random_images(2)).items():
        np.testing.assert_array_equal(uint8(random_images(2))[name], values)


def test_a_float_model_gets_no_uint8_io():
    with pytest.raises(EffkerasError, match="int8 input"):
        with_uint8_io(quantized(NAME, "float32").flatbuffer)


def test_a_tensor_that_is_made_an_output_can_be_read():
    flatbuffer = quantized(NAME, "float32").flatbuffer
    inner = operators(flatbuffer)[5].outputs[0]
    plain = make_interpreter(flatbuffer)
    shown = [make_interpreter(with_outputs(flatbuffer, [inner.index])), keeping_all(flatbuffer)]
    assert [one["index"] for one in shown[0].get_output_details()] == [
        *(one["index"] for one in plain.get_output_details()),
        inner.index,
    ]
    for interpreter in shown:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], random_images(1))
        interpreter.invoke()
    ours, wanted = (interpreter.get_tensor(inner.index) for interpreter in shown)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5)


def test_constants_are_replaced_and_only_they():
    pixels = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(4, 3, bias_initializer="uniform")
    model = keras.Model(pixels, layer(pixels))
    flatbuffer = to_flatbuffer(model)
    (conv,) = (op for op in operators(flatbuffer) if op.name == "CONV_2D")
    bias = real_constants(flatbuffer, [conv.inputs[2].index])[conv.inputs[2].index]
    np.testing.assert_allclose(bias.values, layer.bias.numpy())
    changed = with_constants(flatbuffer, {conv.inputs[2].index: bias.codes_of(bias.values + 1)})
    shown = np.random.default_rng(0).uniform(0, 1, (1, 8, 8, 3)).astype(np.float32)
    outputs = [next(run_all(one, [shown]))[model.output_names[0]] for one in (flatbuffer, changed)]
    np.testing.assert_allclose(outputs[1], outputs[0] + 1, atol=1e-5)


def test_a_constant_of_another_shape_is_refused():
    flatbuffer = to_flatbuffer(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]))
    (conv,) = (op for op in operators(flatbuffer) if op.name == "CONV_2D")
    with pytest.raises(EffkerasError, match="cannot become"):
        with_constants(flatbuffer, {conv.inputs[2].index: np.zeros(5, np.float32)})
    with pytest.raises(EffkerasError, match="cannot become"):
        with_constants(flatbuffer, {conv.inputs[0].index: np.zeros((1, 8, 8, 3), np.float32)})


def test_logits_come_out_where_a_softmax_was():
    pixels = keras.Input((4, 4, 3))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(pixels))
    flatbuffer = to_flatbuffer(keras.Model(pixels, keras.layers.Softmax(name="scores")(logits)))
    shown = np.random.default_rng(0).uniform(0, 1, (1, 4, 4, 3)).astype(np.float32)
    (found,) = run_all(without_final_activation(flatbuffer), [shown])
    wanted = outputs_of_model(keras.Model(pixels, logits), shown)
    np.testing.assert_allclose(found["scores"], wanted, atol=1e-5)
