"""Constant tensors read as real numbers and replaced, and graphs cut before their last activation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model

from effkeras import EffkerasError
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.flatbuffer import operators, real_constants, with_constants, without_final_activation
from quantize import ptq
from quantize.precision.measurements import run_all


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


def test_logits_come_out_where_a_softmax_was():
    pixels = keras.Input((4, 4, 3))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(pixels))
    flatbuffer = to_flatbuffer(keras.Model(pixels, keras.layers.Softmax(name="scores")(logits)))
    shown = np.random.default_rng(0).uniform(0, 1, (1, 4, 4, 3)).astype(np.float32)
    (found,) = run_all(without_final_activation(flatbuffer), [shown])
    wanted = outputs_of_model(keras.Model(pixels, logits), shown)
    np.testing.assert_allclose(found["scores"], wanted, atol=1e-5)
