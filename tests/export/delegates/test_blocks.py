from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.handmade import Op, Tensor, flatbuffer
from support.tiny_models import quantized, tiny_spec

from effkeras import EffkerasError
from effkeras.definitions.blocks import decode
from effkeras.graph.networks.blocks import blocks_of
from effkeras.litert.flatbuffer import multiply_adds, operators
from effkeras.litert.runner import make_interpreter
from effkeras.litert.tiling import tile_rows
from effkeras.litert.tree import pack, parse
from export.delegates.blocks import cut

CLASSIFIER = "efficientnet-lite0"


@pytest.mark.parametrize(
    ("name", "recipe"), [(CLASSIFIER, "float32"), (CLASSIFIER, "int8"), ("efficientdet-lite0", "int8")]
)
def test_the_blocks_one_after_the_other_compute_what_the_network_does(name, recipe):
    content = quantized(name, recipe).flatbuffer
    blocks = cut(content)
    assert sum(one.shape.ops for one in blocks) == len(operators(content))
    assert sum(one.shape.multiply_adds for one in blocks) == sum(map(multiply_adds, operators(content)))
    known, expected = everything_in(content)
    for one in blocks:
        for index, value in run(one.flatbuffer, known).items():
            known[index] = value
    for index, value in expected.items():
        np.testing.assert_array_equal(known[index], value)


def everything_in(content):
    """The input by its name, and the outputs that the whole network gives with the plain kernels."""
    whole = make_interpreter(content, threads=1, xnnpack=False)
    (given,) = whole.get_input_details()
    pixels = np.random.default_rng(0).integers(-128, 128, given["shape"]).astype(given["dtype"])
    whole.set_tensor(given["index"], pixels)
    whole.invoke()
    made = {one["name"]: whole.get_tensor(one["index"]) for one in whole.get_output_details()}
    return {given["name"]: pixels}, made


def run(content, known):
    part = make_interpreter(content, threads=1, xnnpack=False)
    for one in part.get_input_details():
        part.set_tensor(one["index"], known[one["name"]])
    part.invoke()
    return {one["name"]: part.get_tensor(one["index"]) for one in part.get_output_details()}


def test_a_block_knows_its_block_string_and_shapes():
    spec = tiny_spec(CLASSIFIER)
    found = {one.shape.name: one.shape for one in cut(quantized(CLASSIFIER, "int8").flatbuffer, spec)}
    for block in blocks_of(spec.network):
        stage = decode(found[block.name].stage)
        assert (stage.inputs, stage.outputs, stage.stride, stage.repeats) == (
            block.inputs,
            block.outputs,
            block.stride,
            1,
        )
        ((_, _, _, channels),) = found[block.name].inputs
        assert channels == block.inputs
        assert found[block.name].outputs[0][-1] == block.outputs
        assert found[block.name].dtype == "int8"
        assert stage.activation == "relu6"
        assert stage.squeeze == 0  # Lite networks leave it out, whatever their strings say
    assert found["stem"].stage == ""


def test_a_name_that_comes_again_gets_a_number():
    tensors = [Tensor((1, 4, 4, 2), "float32", scales=()) for _ in range(6)]
    parsed = parse(flatbuffer(*(Op("RELU", [a], [b]) for a, b in itertools.pairwise(tensors))))
    for tensor, layer in zip(
        parsed.subgraphs[0].tensors, ("in", "a_x", "a_y", "b", "a_z", "b_x"), strict=True
    ):
        tensor.name = f"net/{layer}/relu"
    found = [(one.shape.name, one.shape.ops) for one in cut(pack(parsed))]
    assert found == [("a", 2), ("b", 1), ("a#2", 1), ("b#2", 1)]


def test_strips_of_rows_are_refused_as_they_cross_blocks():
    content = tile_rows(quantized(CLASSIFIER, "int8").flatbuffer, cache=4096)
    with pytest.raises(EffkerasError, match=r"strips of rows.* export the network with --for raw"):
        cut(content, tiny_spec(CLASSIFIER))


def test_a_damaged_file_is_an_error():
    with pytest.raises(EffkerasError, match="tflite"):
        cut(b"not a model")
