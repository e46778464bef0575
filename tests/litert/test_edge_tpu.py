from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
from support.handmade import flatbuffer
from support.op_cases import conv, dense, reshape
from support.tiny_models import parts, quantized, random_images, randomize

from effkeras import EffkerasError
from effkeras.layers.feature_maps import NearestUpsample
from effkeras.litert.edge_tpu import for_edge_tpu
from effkeras.litert.flatbuffer import operators
from effkeras.litert.nodes import nodes
from effkeras.litert.runner import LiteRTModel, make_interpreter
from quantize.formats import find
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts, quantize_pixels


def names(content: bytes) -> Counter[str]:
    return Counter(op.name for op in operators(content))


@pytest.mark.parametrize("name", ["efficientdet-lite0", "efficientnet-lite0"])
def test_results_stay_bit_equal(name):
    before = quantized(name, "int8", "uint8").flatbuffer
    after = for_edge_tpu(before)
    for xnnpack in (True, False):
        one, other = (LiteRTModel.of_bytes(content, xnnpack=xnnpack) for content in (before, after))
        for image in random_images(3):
            wanted, got = one.raw(image), other.raw(image)
            assert len(np.unique(wanted[next(iter(wanted))])) > 2
            for output, values in wanted.items():
                np.testing.assert_array_equal(got[output], values)


def test_enlargements_become_one_operator_each():
    before = names(quantized("efficientdet-lite0", "int8", "uint8").flatbuffer)
    after = names(for_edge_tpu(quantized("efficientdet-lite0", "int8", "uint8").flatbuffer))
    count = after["RESIZE_NEAREST_NEIGHBOR"]
    assert count == 2  # from 2 x 2 pixels on: what enlarges one pixel has no first reshape
    assert before - after == Counter({"CONCATENATION": 2 * count, "RESHAPE": 2 * count})


@pytest.mark.parametrize("target", [(6, 8), (5, 7), (5, 8)])
def test_odd_sizes_lose_their_crop_too(target):
    pixels = keras.Input((3, 4, 8))
    layers = [
        keras.layers.Conv2D(8, 1, use_bias=False),
        NearestUpsample(*target),
        keras.layers.Conv2D(4, 1, use_bias=False),
    ]
    y = pixels
    for layer in layers:
        y = layer(y)
    model = keras.Model(pixels, y)
    randomize(model)
    random = np.random.default_rng(0).normal(0, 1, (4, 1, 3, 4, 8)).astype(np.float32)
    options = PtqOptions(find("int8"))
    before = quantize_pixels(float_parts(model, options), options, random).flatbuffer
    after = for_edge_tpu(before)
    assert names(after)["RESIZE_NEAREST_NEIGHBOR"] == 1
    assert not names(after) & Counter(CONCATENATION=1, RESHAPE=1, STRIDED_SLICE=1)
    both = [make_interpreter(content, xnnpack=False).get_signature_runner() for content in (before, after)]
    (wanted,), (got,) = (run(image=random[0]).values() for run in both)
    np.testing.assert_array_equal(got, wanted)
    assert wanted.shape[1:3] == target


def test_a_dense_layer_becomes_a_convolution_of_one_pixel():
    after = for_edge_tpu(quantized("efficientnet-lite0", "int8", "uint8").flatbuffer)
    assert "FULLY_CONNECTED" not in names(after)
    last = [node for node in nodes(after) if node.name == "CONV_2D"][-1]
    assert last.inputs[1].shape[1:3] == (1, 1)
    assert last.inputs[1].scales == last.inputs[1].shape[0] == last.inputs[2].scales
    assert names(after)["RESHAPE"] == 1


def test_versions_are_those_that_the_converter_states():
    versions = {node.name: node.version for node in nodes(for_edge_tpu(flatbuffer(conv())))}
    assert versions == {"CONV_2D": 3}
    stated = {node.version for node in nodes(for_edge_tpu(flatbuffer(conv("float32"))))}
    assert stated == {1}


def test_what_is_known_already_stays():
    for op in (dense(), reshape(), dense("float32")):
        assert names(for_edge_tpu(flatbuffer(op))) == Counter({op.name: 1})
    float_one = parts("efficientdet-lite0", "float32").flatbuffer
    assert names(for_edge_tpu(float_one))["FULLY_CONNECTED"] == names(float_one)["FULLY_CONNECTED"]


def test_the_definition_stays_attached():
    before = quantized("efficientdet-lite0", "int8", "uint8").flatbuffer
    assert LiteRTModel.of_bytes(for_edge_tpu(before)).spec == LiteRTModel.of_bytes(before).spec


def test_no_flatbuffer_is_an_error():
    with pytest.raises(EffkerasError, match=r"not a \.tflite file"):
        for_edge_tpu(b"nothing at all")
