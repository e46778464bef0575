"""Preprocessing in the graph gives the pixels and placement of `effkeras.data.preprocess`, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from effkeras.data import preprocess
from effkeras.definitions.definition import InputSpec
from export.savedmodel.preprocess import Placement, place, to_image

MEAN = (123.675, 116.28, 103.53)
SPECS = {
    "letterbox": InputSpec((64, 96), MEAN, (1.0, 1.0, 1.0), "letterbox"),
    "crop": InputSpec((96, 96), MEAN, (1.0, 1.0, 1.0), "center-crop", 0.875),
    "all": InputSpec((33, 47), MEAN, (1.0, 1.0, 1.0), "center-crop"),
}
IMAGES = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
PLACE = {
    name: tf.function(lambda images, spec=spec: place(images, spec), IMAGES, autograph=False)
    for name, spec in SPECS.items()
}


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 99))
@example(height=64, width=96, seed=0)
@example(height=1, width=1, seed=0)
@example(height=300, width=1, seed=0)
def test_images_of_any_size(name, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    wanted = preprocess.place(image, SPECS[name])
    pixels, placement = PLACE[name](image[None])
    np.testing.assert_array_equal(pixels[0], preprocess.fill(wanted.content, SPECS[name]))
    for side in ("scale", "offset", "size"):
        np.testing.assert_array_equal(getattr(placement, side), getattr(wanted.placement, side))


def test_a_batch_is_its_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), np.uint8)
    together, _ = PLACE["letterbox"](images)
    for one, image in zip(together, images, strict=True):
        np.testing.assert_array_equal(one, PLACE["letterbox"](image[None])[0][0])


@pytest.mark.parametrize("name", SPECS)
def test_boxes_go_back_to_the_image(name):
    wanted = preprocess.place(np.zeros((130, 75, 3), np.uint8), SPECS[name]).placement
    boxes = np.random.default_rng(0).uniform(-20, 120, (50, 4)).astype(np.float32)
    tensors = (tf.constant(values, tf.float64) for values in (wanted.scale, wanted.offset))
    placement = Placement(*tensors, tf.constant(wanted.size, tf.int64))
    np.testing.assert_array_equal(to_image(tf.constant(boxes), placement), wanted.to_image(boxes))
