"""Boxes follow the pixels that they surround, and a change follows from its seed alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from effkeras.data.augment import (
    Batch,
    _draw,
    _move,
    _recolor,
    augment,
    augment_images,
    filled,
    without_boxes,
)
from effkeras.data.augmentations import AugmentSpec

STILL = AugmentSpec({"flip": False, "scale": (1.0, 1.0), "brightness": 0, "contrast": 0, "color": 0})
MOVING = AugmentSpec({"flip": True, "scale": (0.6, 1.6), "brightness": 0, "contrast": 0, "color": 0})
FILL = (10.0, 20.0, 30.0)


def batch(count: int = 16) -> Batch:
    """Each image shows one bright rectangle, which the box surrounds exactly and class 4 covers."""
    pixels = np.tile(np.array(FILL, np.float32), (count, 64, 96, 1))
    pixels[:, 20:44, 30:50] = 250
    boxes = np.tile(np.array([[20, 30, 44, 50], [0, 0, 0, 0]], np.float32), (count, 1, 1))
    classes = np.tile(np.array([3, -1], np.int32), (count, 1))
    labels = np.zeros((count, 64, 96), np.uint8)
    labels[:, 20:44, 30:50] = 4
    return Batch(*map(tf.constant, (pixels, boxes, classes, np.zeros((count, 2), bool), labels)))


def seeds(count: int = 16, start: int = 0) -> tf.Tensor:
    return tf.constant([[7, start + index] for index in range(count)], tf.int32)


def test_no_change_changes_nothing():
    before = batch()
    after = augment(before, seeds(), STILL, FILL)
    np.testing.assert_allclose(after.pixels, before.pixels, atol=1e-3)
    np.testing.assert_allclose(after.boxes, before.boxes, atol=1e-4)
    np.testing.assert_array_equal(after.classes, before.classes)


def test_boxes_surround_what_they_surrounded():
    after = augment(batch(64), seeds(64), MOVING, FILL)
    seen = 0
    for pixels, boxes, classes in zip(*(part.numpy() for part in after[:3]), strict=True):
        if classes[0] < 0:
            continue
        bright = np.argwhere(pixels[..., 0] > 130)
        low, high = bright.min(axis=0), bright.max(axis=0) + 1
        np.testing.assert_allclose(boxes[0], [*low, *high], atol=1.01)
        seen += 1
    assert seen > 40


def test_masks_follow_the_pixels_and_their_boxes():
    after = augment(batch(64), seeds(64), MOVING, FILL)
    seen = 0
    for pixels, boxes, classes, labels in zip(
        *(part.numpy() for part in (after.pixels, after.boxes, after.classes, after.labels)), strict=True
    ):
        bright = pixels[..., 0] > 130
        # Bilinear and nearest disagree by less than a pixel along the border.
        assert (bright != (labels == 4)).sum() <= 2 * (bright.sum() ** 0.5) * 2
        assert set(np.unique(labels)) <= {0, 4, 255}
        if classes[0] >= 0:
            inside = np.argwhere(labels == 4)
            np.testing.assert_allclose(boxes[0], [*inside.min(axis=0), *(inside.max(axis=0) + 1)], atol=1.01)
            seen += 1
    assert seen > 40


def test_no_change_leaves_masks_as_they_are():
    np.testing.assert_array_equal(augment(batch(), seeds(), STILL, FILL).labels, batch().labels)


def test_a_mirrored_mask_is_the_mirror_image():
    draw = np.random.default_rng(0).integers(0, 9, (16, 64, 96)).astype(np.uint8)
    before = batch()._replace(labels=tf.constant(draw))
    after = augment(
        before,
        seeds(),
        AugmentSpec({"flip": True, "scale": (1.0, 1.0), "brightness": 0, "contrast": 0, "color": 0}),
        FILL,
    ).labels.numpy()
    mirrored = [(one == two[:, ::-1]).all() for one, two in zip(after, draw, strict=True)]
    kept = [(one == two).all() for one, two in zip(after, draw, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 0 < sum(mirrored) < 16


def test_pixels_are_those_of_keras_and_padding_gets_the_fill_colour():
    """An image that fills a part of its input, with noise for its finest detail."""
    size, content = (40, 56), (30, 56)
    pixels = np.zeros((6, *size, 3), np.uint8)
    pixels[:, : content[0]] = np.random.default_rng(0).integers(60, 190, (6, *content, 3))
    spec = AugmentSpec({"scale": (0.5, 2.0), "brightness": 0.05, "contrast": 0.1, "color": 0.1})
    given = without_boxes(tf.constant(pixels))
    ours = augment(given, seeds(6), spec, FILL, tf.constant([content] * 6)).pixels.numpy()
    drawn = _draw(seeds(6), spec)
    whole = filled(given.pixels, tf.constant([content] * 6), FILL)
    np.testing.assert_array_equal(whole[:, content[0] :], np.broadcast_to(FILL, (6, 10, 56, 3)))
    np.testing.assert_array_equal(whole[:, : content[0]], pixels[:, : content[0]])
    for theirs in (by_keras(whole, drawn), augment_images(whole, seeds(6), spec, FILL)):
        np.testing.assert_allclose(ours, theirs, atol=0.02)


def by_keras(pixels: tf.Tensor, drawn) -> np.ndarray:
    """The pixels after all moves and recolourings, one after the other."""
    move, recolor = _move(drawn, tuple(pixels.shape[1:3])), _recolor(drawn)
    scale = 1.0 / move.scale
    offset, zero = -move.offset / move.scale + 0.5 * scale - 0.5, tf.zeros_like(scale[:, 0])
    rows = [scale[:, 1], zero, offset[:, 1], zero, scale[:, 0], offset[:, 0], zero, zero]
    moved = keras.ops.image.affine_transform(
        pixels - list(FILL), tf.stack(rows, axis=-1), interpolation="bilinear", fill_mode="constant"
    )
    moved = (moved + list(FILL)).numpy()
    mean = moved.mean(axis=(1, 2), keepdims=True)
    return np.clip((moved - mean) * recolor.factor.numpy() + mean + recolor.shift.numpy(), 0, 255)


def test_both_directions_and_zooms_occur():
    after = augment(batch(64), seeds(64), MOVING, FILL)
    widths = after.boxes[:, 0, 3] - after.boxes[:, 0, 1]
    assert tf.reduce_min(widths) < 17
    assert tf.reduce_max(widths) > 24


def test_boxes_that_leave_the_image_are_dropped_and_those_mostly_cut_off_are_ignored():
    far = batch(64)._replace(boxes=tf.tile([[[0.0, 0, 14, 14], [0, 0, 0, 0]]], [64, 1, 1]))
    after = augment(far, seeds(64), AugmentSpec({"scale": (1.5, 2.0)}), FILL)
    gone = after.classes[:, 0] < 0
    assert tf.reduce_any(gone)
    assert tf.reduce_any(after.crowd[:, 0])
    assert not tf.reduce_any(after.crowd[:, 0] & gone)
    assert not tf.reduce_any(after.crowd[:, 1])
    assert (after.boxes.numpy() >= 0).all()
    assert (after.boxes.numpy() <= [64, 96, 64, 96]).all()


def test_the_same_seed_gives_the_same_image():
    spec = AugmentSpec()
    whole = augment(batch(8), seeds(8), spec, FILL)
    part = augment(batch(4), seeds(4, start=4), spec, FILL)
    # Vectorised arithmetic rounds by batch size; the same batch is the same to the bit.
    np.testing.assert_allclose(whole.pixels[4:], part.pixels, atol=0.01)
    np.testing.assert_allclose(whole.boxes[4:], part.boxes, atol=1e-3)
    np.testing.assert_array_equal(augment(batch(8), seeds(8), spec, FILL).pixels, whole.pixels)
    assert not np.array_equal(whole.pixels[0], whole.pixels[1])


def test_uncovered_ground_gets_the_fill_colour():
    shrunk = augment(
        batch(4),
        seeds(4),
        AugmentSpec({"flip": False, "scale": (0.5, 0.5), "brightness": 0, "contrast": 0, "color": 0}),
        FILL,
    )
    corners = shrunk.pixels.numpy()[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.abs(corners - FILL).max(axis=-1).min() < 1e-2
    unknown = (shrunk.labels.numpy() == 255).sum(axis=(1, 2))
    np.testing.assert_array_equal(unknown, 64 * 96 - 32 * 48)


@pytest.mark.parametrize("name", ["brightness", "contrast", "color"])
def test_colours_change_and_stay_in_range(name):
    spec = AugmentSpec(
        {"flip": False, "scale": (1, 1), "brightness": 0, "contrast": 0, "color": 0, name: 0.9}
    )
    before = batch(8).pixels
    after = augment_images(before, seeds(8), spec, FILL)
    assert np.abs(after - before).max() > 5
    assert after.numpy().min() >= 0
    assert after.numpy().max() <= 255


def test_a_seed_gives_the_images_it_always_gave():
    """A resumed run sees the images of the version that began it."""
    after = augment(batch(2), seeds(2), AugmentSpec(), FILL)
    boxes = [[17.316442, 32.850685, 44.1143, 55.182232], [22.729431, 32.270775, 42.27631, 48.559841]]
    corner, middle = [17.41621, 27.656055, 36.880119], [219.507904, 217.294907, 224.454269]
    np.testing.assert_allclose(after.boxes[:, 0], boxes, atol=1e-3)
    np.testing.assert_allclose(after.pixels[0, 32, ::48], [corner, middle], atol=1e-2)
    np.testing.assert_array_equal(after.labels.numpy().sum(axis=(1, 2)), [2376, 513842])


def test_objects_shrunk_to_specks_are_ignored_and_small_ones_as_they_were_annotated_are_not():
    small = batch(64)._replace(boxes=tf.tile([[[20.0, 30, 32, 42], [8, 8, 11, 11]]], [64, 1, 1]))
    small = small._replace(classes=tf.fill((64, 2), 1))
    shrunk = augment(small, seeds(64), AugmentSpec({"scale": (0.3, 0.3)}), FILL)
    assert tf.reduce_all(shrunk.crowd[:, 0])
    assert not tf.reduce_any(augment(small, seeds(64), AugmentSpec({"scale": (0.8, 1.0)}), FILL).crowd)
