"""Logits become classes in the image's own pixels, as TensorFlow's bilinear resizing would have it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from effkeras.data import preprocess
from effkeras.definitions.definition import InputSpec
from effkeras.detection import segmentation
from effkeras.detection.segmentation import decode_mask

SPEC = InputSpec((64, 64), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "letterbox")


def placement(height: int, width: int) -> preprocess.Placement:
    return preprocess.place(np.zeros((height, width, 3), np.uint8), SPEC).placement


def logits(seed: int = 0, classes: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (16, 16, classes)).astype(np.float32)


@pytest.mark.parametrize("side", [64, 128, 32])
def test_a_full_image_is_resized_bilinearly(side):
    wanted = tf.image.resize(logits(), (side, side)).numpy().argmax(axis=-1)
    found = decode_mask(logits(), placement(side, side))
    assert found.dtype == np.uint8
    assert (found == wanted).mean() > 0.999  # ties of rounding apart


def test_a_letterboxed_image_sees_its_part_of_the_mask():
    """32 x 64 pixels of 64 x 64: only the mask's upper 8 rows, whatever the network says below."""
    here = logits(1)
    wanted = tf.image.resize(here[:8], (32, 64)).numpy().argmax(axis=-1)
    noisy = here.copy()
    noisy[8:, :, 0] = 1e6
    found = decode_mask(noisy, placement(32, 64))
    assert found.shape == (32, 64)
    assert (found == wanted).mean() > 0.999


def test_classes_lie_where_the_objects_are():
    """A class in the mask's pixels 4..8, 2..6 is one in the image's pixels 4 times that, half the size."""
    marked = np.zeros((16, 16, 2), np.float32)
    marked[..., 0] = 1
    marked[4:8, 2:6] = (0, 2.9)
    found = decode_mask(marked, placement(32, 32))
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (8, 16, 4, 12)


def test_bands_change_nothing(monkeypatch):
    whole = decode_mask(logits(2), placement(50, 90))
    monkeypatch.setattr(segmentation, "_BAND", 1)
    np.testing.assert_array_equal(decode_mask(logits(2), placement(50, 90)), whole)


def test_a_mask_that_reaches_beyond_the_input_is_cut():
    """An input of 33 x 65 pixels has a mask of 10 x 18, of which 8.25 x 16.25 are the image's."""
    spec = InputSpec((33, 65), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "letterbox")
    place = preprocess.place(np.zeros((33, 65, 3), np.uint8), spec).placement
    raw = np.zeros((10, 18, 2), np.float32)
    raw[9:, :, 1] = raw[:, 17:, 1] = 1e6
    assert not decode_mask(raw, place).any()
