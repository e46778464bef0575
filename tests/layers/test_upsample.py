"""Enlargement is nearest-neighbour without half-pixel centres, at even and odd sizes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effkeras.layers import NearestUpsample


def nearest(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = np.arange(height) * pixels.shape[1] // height
    columns = np.arange(width) * pixels.shape[2] // width
    return pixels[:, rows][:, :, columns]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(1, 3), st.integers(1, 3)
)
def test_a_pixel_shows_the_one_before_it(rows, columns, is_odd_high, is_odd_wide, channels, count):
    height, width = 2 * rows - is_odd_high, 2 * columns - is_odd_wide
    pixels = np.random.default_rng(0).normal(size=(count, rows, columns, channels)).astype(np.float32)
    ours = NearestUpsample(height, width)(pixels)
    np.testing.assert_array_equal(ours, nearest(pixels, height, width))


def test_the_batch_may_be_of_any_size():
    inputs = keras.Input((3, 2, 4))
    model = keras.Model(inputs, NearestUpsample(5, 4)(inputs))
    assert model.output_shape == (None, 5, 4, 4)
    for count in (1, 3):
        pixels = np.random.default_rng(count).normal(size=(count, 3, 2, 4)).astype(np.float32)
        np.testing.assert_array_equal(model(pixels), nearest(pixels, 5, 4))


@pytest.mark.parametrize("size", [(3, 8), (9, 8), (6, 8), (8, 4), (8, 9), (4, 4)])
def test_other_sizes_than_twice_are_refused(size):
    with pytest.raises(ValueError, match="only to twice"):
        NearestUpsample(*size)(np.zeros((1, 4, 4, 1), np.float32))


def test_the_type_is_kept():
    layer = NearestUpsample(4, 4, dtype="mixed_bfloat16")
    assert layer(np.zeros((1, 2, 2, 1), np.float32)).dtype == "bfloat16"


def test_its_config_round_trips():
    layer = NearestUpsample(7, 6, name="up")
    again = NearestUpsample.from_config(layer.get_config())
    assert (again.height, again.width, again.name) == (7, 6, "up")


def test_it_is_saved_with_its_model(tmp_path):
    inputs = keras.Input((3, 2, 4))
    model = keras.Model(inputs, NearestUpsample(5, 4)(inputs))
    model.save(tmp_path / "m.keras")
    pixels = np.random.default_rng(0).normal(size=(2, 3, 2, 4)).astype(np.float32)
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(pixels), nearest(pixels, 5, 4))
