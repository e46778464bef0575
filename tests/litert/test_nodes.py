from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from support.handmade import Op, Tensor, flatbuffer
from support.op_cases import conv, dense, image, unary
from support.tiny_models import quantized

from effkeras import EffkerasError
from effkeras.litert.flatbuffer import operators
from effkeras.litert.nodes import nodes
from effkeras.litert.tree import parse


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_they_are_the_operators_with_more(recipe):
    content = quantized("efficientdet-lite0", recipe).flatbuffer
    assert [node.op for node in nodes(content)] == operators(content)


def test_constants_behind_the_flatbuffer_are_constants():
    """Files above 2 GB keep their weights there."""
    inside, place = flatbuffer(conv()), 1 << 16
    tree, moved = parse(inside), b""
    for buffer in (one for one in tree.buffers if one.data is not None):
        buffer.offset, buffer.size = place + len(moved), len(buffer.data)
        moved, buffer.data = moved + buffer.data.tobytes(), None
    builder = flatbuffers.Builder()
    builder.Finish(tree.Pack(builder), b"TFL3")
    outside = bytes(builder.Output()).ljust(place, b"\0") + moved
    assert [node.op for node in nodes(outside)] == operators(outside) == operators(inside)
    assert [tensor.is_constant for tensor in operators(outside)[0].inputs] == [False, True, True]


def test_versions_options_and_quantization():
    kernel = Tensor.weights(4, 1, 1, 4, scales=(0.1, 0.2, 0.3, 0.4), zero_point=7)
    (node,) = nodes(flatbuffer(conv(kernel=kernel, fusedActivationFunction=3)))
    assert (node.name, node.version, node.fused_activation()) == ("CONV_2D", 1, "RELU6")
    assert (node.inputs[1].scales, node.inputs[1].zero_point) == (4, 7)
    assert [tensor.size for tensor in node.given] == [256, 16, 16]
    assert (len(node.activations), len(node.constants)) == (1, 2)


def test_an_input_that_is_left_out_keeps_its_place():
    (node,) = nodes(flatbuffer(dense()))
    assert node.inputs[2] is None
    assert len(node.given) == 2


def test_open_sides_and_custom_operators():
    (node,) = nodes(flatbuffer(Op("Own", [image(open=True)], [image()])))
    assert (node.is_custom, node.name) == (True, "Own")
    assert [tensor.is_static for tensor in (*node.given, *node.outputs)] == [False, True]


@pytest.mark.parametrize(
    ("dtype", "bytes_each"), [("float32", 4), ("float16", 2), ("int64", 8), ("uint8", 1)]
)
def test_sizes(dtype, bytes_each):
    (node,) = nodes(flatbuffer(unary("RELU", image(1, 3, 5, dtype=dtype))))
    assert node.given[0].size == 15 * bytes_each


def test_integer_constants():
    axes = Tensor.constant([1, -2], "int64")
    (node,) = nodes(flatbuffer(Op("MEAN", [image(), axes], [image()])))
    np.testing.assert_array_equal(node.inputs[1].integers(), [1, -2])
    with pytest.raises(EffkerasError, match="no integer constant"):
        node.inputs[0].integers()
