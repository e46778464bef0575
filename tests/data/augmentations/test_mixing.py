"""Two images in one: shares of classes, and the boxes of both."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from support.augmenting import FILL, hold_what_they_held, only, rectangles, seeds

from effkeras.data.augment import augment
from effkeras.support.errors import EffkerasError


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_classifiers_targets_are_the_shares_of_the_pixels(name):
    """Each image has its class as its colour, so that the mean colour gives the shares."""
    before = rectangles(classes=8)
    colors = np.zeros((8, 64, 96, 3), np.float32)
    colors[:] = 10.0 * np.arange(8)[:, None, None, None]
    before = before._replace(pixels=tf.constant(colors))
    after = augment(before, seeds(), only(**{name: [1.0, 1.0]}), FILL)
    shown = after.pixels.numpy().mean(axis=(1, 2, 3))
    np.testing.assert_allclose(after.targets.numpy() @ (10.0 * np.arange(8)), shown, atol=0.02)
    assert (after.targets.numpy().max(axis=1) < 0.99).any()
    assert only(**{name: [1.0, 1.0]}).softens
    assert not only(**{name: [0.0, 1.0]}).softens
    assert not only(**{name: [1.0, 1.0]}).without_softening().softens


def test_what_shines_through_weakly_is_ignored():
    after = augment(rectangles(), seeds(), only(mixup=[1.0, 0.5]), FILL)
    assert after.boxes.shape == (8, 4, 4)
    there = after.classes.numpy() >= 0
    brightness = np.zeros((8, 4))
    for image, box in zip(*np.nonzero(there), strict=True):
        top, left, bottom, right = after.boxes[image, box].numpy().round().astype(int)
        brightness[image, box] = after.pixels[image, top:bottom, left:right, 0].numpy().mean()
    counted = there & ~after.crowd.numpy()
    assert counted.sum() > 8
    assert brightness[counted].min() > 10 + 0.29 * 240
    assert (after.crowd.numpy() & there).any()
    assert 255 in after.labels.numpy()


def test_a_pasted_rectangle_brings_its_boxes_and_covers_others():
    after = augment(rectangles(), seeds(), only(cutmix=[1.0, 1.0]), FILL)
    assert hold_what_they_held(after) > 6
    bright = after.pixels.numpy()[..., 0] > 130
    np.testing.assert_array_equal(bright, after.labels.numpy() == 4)
    for boxes, classes, crowd, pixels in zip(after.boxes, after.classes, after.crowd, bright, strict=True):
        for box in boxes[(classes >= 0) & ~crowd].numpy().round().astype(int):
            assert pixels[box[0] : box[2], box[1] : box[3]].mean() > 0.29


@pytest.mark.parametrize("amount", [[1.5, 1.0], [0.5, 0.0]])
def test_nonsense_is_refused(amount):
    with pytest.raises(EffkerasError, match="mixup must be a share from 0 to 1 and an alpha above 0"):
        only(mixup=amount)
