"""What is read from a file: operators, their arithmetic and multiply-adds, layers, 4-bit weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.tiny_models import quantized

from effkeras import EffkerasError
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.flatbuffer import integer_share, layer_of, multiply_adds, operators, real_constants
from effkeras.litert.runner import LiteRTModel
from quantize import ptq

NAME = "efficientdet-lite0"


# Kernel taps x input channels of a group x outputs, by hand.
CASES = {
    "conv": (keras.layers.Conv2D(6, 3, strides=2, padding="same"), 3 * 3 * 4 * 6 * 4 * 4),
    "depthwise": (keras.layers.DepthwiseConv2D(5, padding="same", depth_multiplier=2), 5 * 5 * 8 * 8 * 8),
    "transposed": (keras.layers.Conv2DTranspose(3, 2, strides=2, padding="same"), 2 * 2 * 4 * 3 * 8 * 8),
    "pooled": (keras.layers.MaxPooling2D(2), 0),
}


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


@pytest.mark.parametrize("name", CASES)
def test_multiply_adds(name):
    layer, wanted = CASES[name]
    pixels = keras.Input((8, 8, 4))
    graph = operators(to_flatbuffer(keras.Model(pixels, layer(pixels))))
    assert sum(map(multiply_adds, graph)) == wanted
    assert integer_share(graph) == 0


def test_a_dense_layer():
    pixels = keras.Input((2, 2, 3))
    outputs = keras.layers.Dense(7)(keras.layers.Flatten()(pixels))
    assert sum(map(multiply_adds, operators(to_flatbuffer(keras.Model(pixels, outputs))))) == 12 * 7


def test_4_bit_weights_are_unpacked():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(5, 1)])
    shown = np.random.default_rng(0).uniform(0, 1, (2, 4, 4, 3)).astype(np.float32)
    flatbuffer = ptq(model, "int4", shown).flatbuffer
    (conv,) = (op for op in operators(flatbuffer) if op.name == "CONV_2D")
    found = real_constants(flatbuffer, [conv.inputs[1].index])[conv.inputs[1].index]
    wanted = model.layers[-1].kernel.numpy().transpose(3, 0, 1, 2)
    assert np.abs(found.values - wanted).max() <= found.scale.max() / 2 * (1 + 1e-5)
    codes = np.rint(found.values / found.scale)
    assert set(np.unique(codes)) <= set(range(-8, 8))
