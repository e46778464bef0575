from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from support.tiny_models import keeping_all, quantized, random_images

from effkeras import EffkerasError
from effkeras.litert.flatbuffer import attach, attached, layer_of, operators, with_outputs, with_uint8_io
from effkeras.litert.runner import DEFINITION, LiteRTModel, make_interpreter

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


def test_arithmetic_of_operators():
    by_recipe = {
        recipe: {op.arithmetic for op in operators(quantized(NAME, recipe).flatbuffer)}
        for recipe in ("float32", "fp16", "dynamic", "int8")
    }
    assert by_recipe["float32"] == {"float"}
    assert by_recipe["fp16"] == {"float", "conversion"}
    assert by_recipe["dynamic"] == {"float", "hybrid"}
    assert by_recipe["int8"] == {"float", "integer", "conversion"}


def test_operators_say_what_they_are():
    first = operators(quantized(NAME, "int8", "int8").flatbuffer)[0]
    assert (first.index, first.name) == (0, "CONV_2D")
    assert [tensor.dtype for tensor in first.inputs] == ["int8", "int8", "int32"]
    assert [tensor.is_constant for tensor in first.inputs] == [False, True, True]


def test_uint8_edges_change_no_result():
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


def test_a_float_model_gets_no_uint8_edges():
    with pytest.raises(EffkerasError, match="int8 input"):
        with_uint8_io(quantized(NAME, "float32").flatbuffer)


@pytest.mark.parametrize("broken", [b"", b"TFL3", b"\0\0\0\0TFL3" + b"\xff" * 64, b"PK\3\4 a zip file"])
def test_corrupt_files_are_refused(broken):
    with pytest.raises(EffkerasError, match="export the model again"):
        operators(broken)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_files_cut_short_are_refused(kept):
    whole = quantized(NAME, "float32").flatbuffer
    with pytest.raises(EffkerasError, match="export the model again"):
        LiteRTModel.of_bytes(whole[: int(len(whole) * kept)])


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("net_1/stem_act_1/Relu6;net_1/stem_bn_1/batchnorm/add_1", "stem_act"),
        ("net_1/normalize_1/mul", "normalize"),
        ("class_logits", "class_logits"),
    ],
)
def test_layer_of_a_tensor(tensor, layer):
    assert layer_of(tensor) == layer


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
