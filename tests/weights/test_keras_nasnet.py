"""With keras.applications's weights our NASNets compute what keras.applications computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest
from support.proofs import KERAS, proves

import effkeras
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_names import nasnet_names


def theirs(build: Callable[..., keras.Model], size: tuple[int, int], classes: int) -> keras.Model:
    """Their network, every weight and statistic random, with a classifier of any number of classes."""
    body = build(input_shape=(*size, 3), weights=None, include_top=False, pooling="avg")
    scores = keras.layers.Dense(classes, name="predictions")(body.output)
    model = keras.Model(body.input, scores)
    random = np.random.default_rng(0)
    for weight in model.weights:
        name = weight.path.rsplit("/", 1)[-1]
        if name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif name in ("beta", "moving_mean"):
            weight.assign(random.normal(0, 0.2, weight.shape))
    return model


def copy(source: keras.Model, target: keras.Model) -> None:
    names = nasnet_names(spec_of(target))
    used = set()
    for layer in target.layers:
        for weight in layer.weights:
            name = names[layer.name, weight.name]
            found = {one.name: one for one in source.get_layer(name).weights}
            weight.assign(found[weight.name])
            used.add((name, weight.name))
    assert used == {(layer.name, weight.name) for layer in source.layers for weight in layer.weights}


def assert_equal(ours: keras.Model, reference: keras.Model) -> None:
    copy(reference, ours)
    pixels = np.random.default_rng(1).uniform(0, 255, (2, *ours.input_shape[1:])).astype("float32")
    wanted = reference(keras.applications.nasnet.preprocess_input(pixels.copy()), training=False).numpy()
    got = ours(pixels, training=False).numpy()
    assert wanted.std() > 1e-3
    assert np.abs(got - wanted).max() < 1e-4 * wanted.std()


# An odd size beside an even one: every stride pads on one side or on both.
@proves("nasnet-mobile", KERAS)
@pytest.mark.slow
def test_mobile_is_keras_applications():
    ours = effkeras.build("nasnet-mobile", input_shape=(75, 64), classes=7, activation=None)
    assert_equal(ours, theirs(keras.applications.NASNetMobile, (75, 64), 7))


@proves("nasnet-large", KERAS)
@pytest.mark.nightly("zoo")
def test_large_is_keras_applications():
    ours = effkeras.build("nasnet-large", input_shape=(64, 75), classes=7, activation=None)
    assert_equal(ours, theirs(keras.applications.NASNetLarge, (64, 75), 7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": ("sep3x3(h) + p",)}, "no NASNet with such normal"),
        ({"stem_cells": 0}, "no NASNet with such stem_cells"),
    ],
)
def test_other_cells_have_no_names_there(change, message):
    spec = effkeras.spec("nasnet-mobile")
    other = spec.replace(network=dataclasses.replace(spec.network, **change))
    with pytest.raises(EffkerasError, match=message):
        nasnet_names(other)


def test_other_kinds_have_no_names_there():
    with pytest.raises(EffkerasError, match="efficientnet-b0 is not a network of cells"):
        nasnet_names(effkeras.spec("b0"))
