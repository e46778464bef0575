"""What holds for every augmentation: shapes, limits, seeds, and boxes that hold what they held."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from support.augmenting import FILL, hold_what_they_held, only, rectangles, seeds

from effkeras.data.augment import augment
from effkeras.data.augmentations import AUGMENTATIONS

AMOUNTS = {
    "auto_augment": "detection-v0",
    "blur": 2.0,
    "brightness": 0.5,
    "color": 0.5,
    "contrast": 0.5,
    "crop": [0.08, 1.0],
    "cutmix": [0.8, 1.0],
    "erase": 0.8,
    "flip": True,
    "grid_mask": 0.8,
    "hsv": [0.3, 0.5, 0.5],
    "mixup": [0.8, 1.0],
    "mosaic": 0.8,
    "noise": 0.2,
    "rand_augment": [2, 20.0],
    "rotate90": True,
    "scale": [0.1, 2.0],
    "vertical_flip": True,
}


def test_each_is_tested():
    assert set(AMOUNTS) == set(AUGMENTATIONS.entries())


@pytest.mark.parametrize("name", AMOUNTS)
def test_boxes_and_masks_follow_the_pixels(name):
    after = augment(rectangles(), seeds(), only(**{name: AMOUNTS[name]}), FILL)
    assert hold_what_they_held(after) > 4
    assert (after.boxes.numpy() >= 0).all()
    assert (after.boxes.numpy() <= [64, 96, 64, 96]).all()
    assert not (after.crowd.numpy() & (after.classes.numpy() < 0)).any()
    assert after.visible is None
    check(after.pixels)


@pytest.mark.parametrize("name", AMOUNTS)
def test_a_seed_decides_and_none_needs_boxes(name):
    spec = only(**{name: AMOUNTS[name]})
    run = tf.function(lambda seeds: augment(before, seeds, spec, FILL), autograph=False)
    before = rectangles(classes=5)
    once, again, other = run(seeds()), run(seeds()), run(seeds(start=8))
    np.testing.assert_array_equal(once.pixels, again.pixels)
    if name != "mosaic":  # whose images of a classifier stay whole
        assert not np.array_equal(once.pixels, other.pixels)
        assert not np.array_equal(once.pixels, before.pixels)
    np.testing.assert_allclose(tf.reduce_sum(once.targets, axis=-1), 1, atol=1e-5)
    check(once.pixels)


def check(pixels: tf.Tensor) -> None:
    assert pixels.dtype == tf.float32
    assert pixels.shape == (8, 64, 96, 3)
    assert pixels.numpy().min() >= 0
    assert pixels.numpy().max() <= 255
