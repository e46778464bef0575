from __future__ import annotations

import keras
import pytest

from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.costs import integer_share, multiply_adds
from effkeras.litert.flatbuffer import operators

# Kernel taps x input channels of a group x outputs, by hand.
CASES = {
    "conv": (keras.layers.Conv2D(6, 3, strides=2, padding="same"), 3 * 3 * 4 * 6 * 4 * 4),
    "depthwise": (keras.layers.DepthwiseConv2D(5, padding="same", depth_multiplier=2), 5 * 5 * 8 * 8 * 8),
    "transposed": (keras.layers.Conv2DTranspose(3, 2, strides=2, padding="same"), 2 * 2 * 4 * 3 * 8 * 8),
    "pooled": (keras.layers.MaxPooling2D(2), 0),
}


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
