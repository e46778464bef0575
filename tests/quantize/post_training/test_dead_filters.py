"""Filters of zeros, as pruning leaves them, keep their biases in int8."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.own_networks import outputs_of

from quantize import ptq
from quantize.formats import find
from quantize.post_training.corrections import widened_for_biases
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts
from quantize.post_training.ranges import as_range

L = keras.layers


def network(layer: keras.Layer) -> keras.Model:
    """Ends with the layer, of which one filter is zeros with a bias of 3, another next to nothing with -2."""
    pixels = keras.Input((6, 6, 4))
    x = L.Conv2D(4, 1, activation="relu", name="first")(pixels)
    x = L.GlobalAveragePooling2D()(x) if isinstance(layer, L.Dense) else x
    model = keras.Model(pixels, layer(x))
    kernel, bias = (np.array(one) for one in layer.get_weights())
    silent = (..., 1, 0) if isinstance(layer, L.DepthwiseConv2D) else (..., 1)
    faint = (..., 2, 0) if isinstance(layer, L.DepthwiseConv2D) else (..., 2)
    kernel[silent], kernel[faint], bias[1], bias[2] = 0, 1e-12, 3, -2
    layer.set_weights([kernel, bias])
    return model


def shown() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (4, 6, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("recipe", ["int8", "w8a16"])
@pytest.mark.parametrize("layer", [lambda: L.Conv2D(5, 3), lambda: L.DepthwiseConv2D(3), lambda: L.Dense(5)])
def test_a_bias_without_weights_comes_out_right(layer, recipe):
    keras.utils.set_random_seed(0)
    model = network(layer())
    got = outputs_of(ptq(model, recipe, shown()).flatbuffer, shown())
    wanted = outputs_of_model(model, shown())
    np.testing.assert_allclose(got, wanted, atol=0.03 * np.ptp(wanted))
    assert set(np.unique(np.rint(got[..., 1]))) == {3}


def test_other_ranges_stay():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((6, 6, 4))
    model = keras.Model(pixels, L.Conv2D(5, 3)(pixels))
    flatbuffer = float_parts(model, PtqOptions(find("int8"))).flatbuffer
    ranges = {"image": as_range(0, 1)}
    assert widened_for_biases(flatbuffer, ranges) == ranges
