"""Mosaics show parts of four images, with the boxes of each."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from support.augmenting import FILL, hold_what_they_held, only, rectangles, seeds

from effkeras.data.augment import augment
from effkeras.data.augmentations.mosaic import Parts, joined


def test_a_share_of_the_images_becomes_mosaics():
    before = rectangles()
    after = augment(before, seeds(), only(mosaic=0.5), FILL)
    whole = [np.allclose(one, two, atol=1e-3) for one, two in zip(before.pixels, after.pixels, strict=True)]
    assert 0 < sum(whole) < 8
    assert after.boxes.shape == (8, 8, 4)
    for image in np.flatnonzero(whole):
        kept = after.classes[image] >= 0
        np.testing.assert_allclose(after.boxes[image][kept], before.boxes[image, :1], atol=1e-3)
        np.testing.assert_array_equal(after.labels[image], before.labels[image])
    assert hold_what_they_held(after) > 8


def test_a_crowd_stays_one_and_what_a_border_cuts_off_becomes_one():
    before = rectangles()
    crowds = before._replace(crowd=before.classes >= 0)
    after = augment(crowds, seeds(), only(mosaic=1.0), FILL)
    np.testing.assert_array_equal(after.crowd, after.classes >= 0)
    assert tf.reduce_any(augment(before, seeds(), only(mosaic=1.0), FILL).crowd)


def test_windows_show_little_padding():
    """Images fill the upper two thirds, so that only parts taller than that have padding."""
    before = rectangles()
    pixels = np.full((8, 96, 96, 3), 10, np.float32)
    pixels[:, :64] = 200
    frames = tf.tile([[0.0, 0, 64, 96]], [8, 1])
    before = before._replace(pixels=tf.constant(pixels), labels=tf.zeros((8, 0, 0), tf.uint8), frames=frames)
    after = augment(before, seeds(), only(mosaic=1.0), FILL).pixels.numpy()[..., 0]
    shares = (after < 100).mean(axis=(1, 2))
    assert shares.max() < 8 / 96 + 0.01  # parts have up to 72 rows
    # Without frames, parts of the padding are as likely as any.
    after = augment(before._replace(frames=None), seeds(), only(mosaic=1.0), FILL).pixels.numpy()[..., 0]
    assert (after < 100).mean() > 0.15


def test_a_batch_of_one_image_is_enough():
    after = augment(rectangles(1), seeds(1), only(mosaic=1.0), FILL)
    hold_what_they_held(after)


def test_for_the_windows_of_keras_cv_the_images_are_its():
    import keras_cv

    rng = np.random.default_rng(0)
    ramp = np.mgrid[:64, :96].sum(0)[None, :, :, None] + 10.0 * np.arange(8)[:, None, None, None]
    before = rectangles()._replace(
        pixels=tf.constant(np.tile(ramp, (1, 1, 1, 3)), tf.float32), visible=tf.ones((8, 2))
    )
    images = tf.constant(np.concatenate([np.arange(8)[:, None], rng.integers(0, 8, (8, 3))], 1), tf.int32)
    center = rng.integers((16, 24), (48, 72), (8, 2))
    low, none = (64, 96) - center, np.zeros(8, int)
    windows = np.stack([low[:, 0], low[:, 1], low[:, 0], none, none, low[:, 1], none, none], axis=1)
    parts = Parts(images, tf.constant(center, tf.int32), tf.constant(windows.reshape(8, 4, 2), tf.int32))
    ours = joined(before, parts)
    layer = keras_cv.layers.Mosaic(bounding_box_format="yxyx")
    made = {"permutation_order": images, "mosaic_centers": tf.cast(center[:, ::-1] / (96, 64), tf.float32)}
    theirs = layer.augment_images(before.pixels, made).numpy()
    # Its crop interpolates, and so differs along the borders between the parts.
    assert np.median(np.abs(ours.pixels - theirs)) < 1.5
    truths = {"boxes": before.boxes, "classes": tf.cast(before.classes, tf.float32)}
    boxes = layer.augment_bounding_boxes(truths, made, images=before.pixels)
    there = ours.visible.numpy() > 0
    assert there.sum() > 8
    np.testing.assert_allclose(ours.boxes[there], boxes["boxes"][there], atol=1e-3)
    assert (boxes["classes"].numpy() >= 0).sum() == there.sum()
