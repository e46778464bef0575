"""Pixels are normalised per channel, in float32 whatever comes in."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from effkeras.layers import Normalize

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)


def normalised() -> np.ndarray:
    return (pixels() - np.array(MEAN)) / np.array(STD)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_pixels_of_any_type_are_normalised(dtype):
    ours = Normalize(MEAN, STD)(pixels().astype(dtype))
    assert ours.dtype == "float32"
    np.testing.assert_allclose(ours, normalised(), atol=1e-5)


def test_images_of_any_size_are_normalised():
    entry = keras.Input((None, None, 3))
    model = keras.Model(entry, Normalize(MEAN, STD)(entry))
    np.testing.assert_allclose(model(pixels().astype("float32")), normalised(), atol=1e-5)


def test_the_mean_colour_becomes_nothing():
    ours = Normalize(MEAN, STD)(np.full((1, 2, 2, 3), MEAN, np.float32))
    np.testing.assert_allclose(ours, 0, atol=1e-6)


def test_it_stays_float32_in_mixed_precision():
    layer = Normalize(MEAN, STD, dtype="mixed_bfloat16")
    np.testing.assert_allclose(layer(pixels()), normalised(), atol=1e-5)


def test_it_has_no_weights():
    layer = Normalize(MEAN, STD)
    layer(pixels())
    assert layer.weights == []


def test_its_config_round_trips():
    again = Normalize.from_config(Normalize(MEAN, STD, 'name = "x"', name="n").get_config())
    assert (again.mean, again.std, again.definition, again.name) == (
        list(MEAN),
        list(STD),
        'name = "x"',
        "n",
    )


def test_it_is_saved_with_its_model(tmp_path):
    inputs = keras.Input((4, 5, 3))
    keras.Model(inputs, Normalize(MEAN, STD, "text")(inputs)).save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again(pixels()), normalised(), atol=1e-5)
    assert again.layers[1].definition == "text"
