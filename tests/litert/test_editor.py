from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from support.fed_heads import fed_heads, spec_with
from support.tiny_models import quantized, random_images

from effkeras import EffkerasError
from effkeras.litert.editor import GraphEditor, Result
from effkeras.litert.flatbuffer import operators
from effkeras.litert.rewriting import attached
from effkeras.litert.runner import DEFINITION, LiteRTModel, make_interpreter

NAME = "efficientdet-lite0"


def weights(flatbuffer: bytes) -> list[bytes]:
    parsed = flatbuffer_utils.read_model_from_bytearray(flatbuffer)
    return sorted(bytes(one.data) for one in parsed.buffers if one.data is not None)


def test_what_is_there_stays_bit_for_bit():
    plain = quantized(NAME, "int8", "int8").flatbuffer
    editor = GraphEditor(plain)
    editor.add("LOGISTIC", [editor.output("class_logits")], Result("unused", (1,), "int8"))
    edited = editor.packed()
    assert weights(edited) == weights(plain)
    assert [op.name for op in operators(edited)] == [*(op.name for op in operators(plain)), "LOGISTIC"]
    assert attached(edited, DEFINITION) == attached(plain, DEFINITION)


def test_an_operator_computes_on_an_output_and_becomes_one():
    editor = GraphEditor(fed_heads(spec_with()))
    logits = editor.output("class_logits")
    half = editor.constant("half", np.float32(0.5))
    halved = editor.add("MUL", [logits, half], Result("halved", logits.shape))
    flat = editor.reshape(halved, "flat", (logits.shape[1] * logits.shape[2],))
    editor.set_outputs({"flat": flat, "box_deltas": editor.output("box_deltas")})
    answer = make_interpreter(editor.packed()).get_signature_runner()
    fed = np.random.default_rng(0).normal(size=logits.shape).astype(np.float32)
    given = answer(class_logits_fed=fed, box_deltas_fed=np.zeros((1, logits.shape[1], 4), np.float32))
    assert given.keys() == {"flat", "box_deltas"}
    np.testing.assert_array_equal(given["flat"], fed.ravel() / 2)


@pytest.mark.parametrize("value", [np.float32(2), np.int32([1, 2]), np.zeros((2, 0, 3), np.float32)])
def test_constants_keep_shape_and_type(value):
    made = GraphEditor(fed_heads(spec_with())).constant("c", value)
    assert (made.shape, made.dtype) == (value.shape, str(value.dtype))


@pytest.mark.parametrize(("io", "added"), [("float32", 0), ("int8", 1), ("uint8", 0)])
def test_a_head_in_float(io, added):
    plain = LiteRTModel.of_bytes(quantized(NAME, "int8", io).flatbuffer)
    editor = GraphEditor(plain.flatbuffer)
    real = editor.as_float32(editor.output("class_logits"), "class_logits")
    editor.set_outputs({"class_logits": real})
    own = LiteRTModel.of_bytes(editor.packed())
    assert len(operators(own.flatbuffer)) == len(operators(plain.flatbuffer)) + added
    shown = random_images(1)
    np.testing.assert_allclose(own(shown)["class_logits"], plain(shown)["class_logits"], atol=1e-6)
    assert own.raw(shown[0])["class_logits"].dtype == np.float32


def test_versions_are_as_new_as_the_operator_needs():
    editor = GraphEditor(quantized(NAME, "int8", "int8").flatbuffer)
    editor.as_float32(editor.output("class_logits"), "class_logits")
    parsed = flatbuffer_utils.read_model_from_bytearray(editor.packed())
    code = parsed.operatorCodes[parsed.subgraphs[0].operators[-1].opcodeIndex]
    assert code.version == 2  # DEQUANTIZE of int8


def test_an_output_that_is_not_there():
    with pytest.raises(EffkerasError, match="no output 'boxes'"):
        GraphEditor(fed_heads(spec_with())).output("boxes")


def test_a_corrupt_file_is_refused():
    with pytest.raises(EffkerasError):
        GraphEditor(b"\0\0\0\0TFL3" + b"\xff" * 64)
