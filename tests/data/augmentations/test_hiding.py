"""Hidden parts: what little is left of is ignored; grids are regular."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from support.augmenting import FILL, only, rectangles, seeds

from effkeras.data.augment import augment
from effkeras.data.augmentations.batches import share_covered
from effkeras.data.augmentations.hiding import grid


def test_boxes_of_which_little_is_left_are_ignored():
    seen = []
    for start in range(0, 32, 8):
        after = augment(rectangles(), seeds(start=start), only(erase=1.0), FILL)
        for pixels, box, number, crowd in zip(
            after.pixels, after.boxes[:, 0], after.classes[:, 0], after.crowd[:, 0], strict=True
        ):
            top, left, bottom, right = box.numpy().round().astype(int)
            left_over = (pixels[top:bottom, left:right, 0].numpy() > 200).mean()
            assert (number < 0) == (left_over == 0)
            assert crowd == (0 < left_over < 0.3)
            seen.append(left_over)
    assert min(seen) < 0.3
    assert max(seen) == 1


def test_the_covered_share_is_that_of_the_area():
    boxes = tf.constant([[[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]]])
    np.testing.assert_allclose(share_covered(boxes, tf.constant([[0.0, 5, 5, 40]])), [[0.25, 0, 0]])


def test_a_grid_is_that_of_keras_cv():
    """keras-cv's squares by their corners, for the distance 16, the side 8 and no turn."""
    corners = np.arange(1, 9) * 16 - 3.0
    expected = np.zeros((64, 64), bool)
    for bottom in corners:
        for right in corners:
            expected[max(0, int(bottom - 8)) : int(bottom), max(0, int(right - 8)) : int(right)] = True
    # Its squares begin at 5 + 16 n; the middle pixel of ours is 31.5.
    offset = tf.constant([[(31.5 - 5) / 16, (31.5 - 5) / 16]])
    ours = grid((64, 64), tf.constant([16.0]), tf.constant([0.5]), tf.constant([0.0]), offset)
    np.testing.assert_array_equal(ours[0], expected)


def test_a_turned_grid_covers_as_much():
    ours = grid(
        (96, 96), tf.constant([16.0]), tf.constant([0.5]), tf.constant([0.7]), tf.constant([[0, 0.0]])
    )
    assert abs(ours.numpy().mean() - 0.25) < 0.02
