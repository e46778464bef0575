"""Counts of built models: by hand for each kind of layer, and as the definitions are counted."""

from __future__ import annotations

import dataclasses

import keras
import pytest

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_size
from effkeras.graph.counting import count
from effkeras.graph.keras_counting import count_layers
from effkeras.graph.vocabulary import Counts
from effkeras.support.errors import EffkerasError

L = keras.layers
# layer on a map of 8 x 10 x 6: multiply-adds, other operations
BY_HAND = [
    (L.Conv2D(4, 3, padding="same"), 8 * 10 * 9 * 6 * 4, 8 * 10 * 4),
    (L.Conv2D(4, 3, strides=2, use_bias=False), 3 * 4 * 9 * 6 * 4, 0),
    (L.Conv2D(4, 3, padding="same", groups=2, use_bias=False), 8 * 10 * 9 * 3 * 4, 0),
    (L.Conv2D(4, 1, use_bias=False, activation="swish"), 8 * 10 * 6 * 4, 2 * 8 * 10 * 4),
    (L.DepthwiseConv2D(5, padding="same", depth_multiplier=2, use_bias=False), 8 * 10 * 25 * 12, 0),
    (L.SeparableConv2D(4, 3, strides=2, padding="same"), 4 * 5 * (9 * 6 + 6 * 4), 4 * 5 * 4),
    (L.Conv2DTranspose(4, 3, strides=2, padding="same", use_bias=False), 8 * 10 * 9 * 6 * 4, 0),
    (L.Dense(7), 8 * 10 * 6 * 7, 8 * 10 * 7),
    (L.GlobalAveragePooling2D(), 0, 8 * 10 * 6),
    (L.MaxPooling2D(3, 2, padding="same"), 0, 9 * 4 * 5 * 6),
    (L.Activation("hard_swish"), 0, 3 * 8 * 10 * 6),
    (L.BatchNormalization(), 0, 0),
]


@pytest.mark.parametrize(("layer", "macs", "others"), BY_HAND, ids=lambda value: getattr(value, "name", None))
def test_a_layer_costs_what_paper_and_pencil_say(layer, macs, others):
    x = keras.Input((8, 10, 6))
    model = keras.Model(x, type(layer).from_config(layer.get_config())(x))
    counts = count_layers(model)
    assert (counts.macs, counts.operations) == (macs, 2 * macs + others)
    assert counts.total == model.count_params()


@pytest.mark.parametrize(
    "name", ["efficientdet-digits", "b0", "mobilenetv3-small", "mixnet-s", "squeezenet-1.1"]
)
def test_built_models_cost_what_their_definitions_say(name):
    """Two counters that share no code but the conventions."""
    names = [one for one in effkeras.list_models() if one.replace("-", "") == name.replace("-", "")]
    spec = with_size(effkeras.spec(names[0] if names else name), (64, 96))
    assert count_layers(build_spec(spec)) == count(spec)


def test_weights_count_once_and_calls_each_time():
    shared, x = L.Conv2D(3, 1), keras.Input((4, 4, 3))
    counts = count_layers(keras.Model(x, shared(shared(x))))
    assert counts == Counts(12, 12, 2 * 4 * 4 * 9, 4 * 4 * 4 * 9 + 2 * 4 * 4 * 3)


def test_calls_of_other_models_do_not_count():
    shared, x = L.Conv2D(3, 1, use_bias=False), keras.Input((4, 4, 3))
    model = keras.Model(x, shared(x))
    shared(keras.Input((64, 64, 3)))
    assert count_layers(model).macs == 4 * 4 * 9


def test_a_nested_model_costs_what_it_costs_at_this_size():
    inner = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(5, 1, use_bias=False)])
    x = keras.Input((6, 7, 3))
    model = keras.Model(x, inner(x))
    assert count_layers(model) == Counts(15, 15, 6 * 7 * 15, 2 * 6 * 7 * 15)


def test_frozen_weights_are_not_trainable():
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, L.BatchNormalization()(x))
    assert dataclasses.astuple(count_layers(model))[:2] == (6, 12)


def test_an_open_size_is_refused():
    x = keras.Input((None, None, 3))
    with pytest.raises(EffkerasError, match=r"input size of .* is open"):
        count_layers(keras.Model(x, L.Conv2D(3, 1)(x)))


def test_unknown_arithmetic_is_refused():
    x = keras.Input((8, 3))
    with pytest.raises(EffkerasError, match=r"multiply-adds of 'line' \(Conv1D\) cannot be counted"):
        count_layers(keras.Model(x, L.Conv1D(3, 1, name="line")(x)))
