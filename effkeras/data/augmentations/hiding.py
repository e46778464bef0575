"""Augmentations that hide a part of an image: erase and grid_mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation
from effkeras.data.augmentations.batches import (
    Batch,
    inside,
    keras_layer,
    random_rectangles,
    share_covered,
    uniform,
)

if TYPE_CHECKING:
    import tensorflow as tf

_ERASED = (0.02, 0.33)  # the square of a side's share of the image's, from and to: Keras's default


@AUGMENTATIONS.register("erase")
@dataclass(frozen=True)
class Erase(Augmentation):
    """Fills a rectangle of a random share (the amount) of the images with their mean colour (cutout).

    Keras's RandomErasing changes the pixels (Zhong et al. 2020; DeVries and Taylor 2017). Boxes of which less
    than 0.3 is left to see are ignored by the loss. Label maps stay as they are.
    """

    rank = 230
    per_image = True
    share = True

    amount: float = 0.0

    def mix(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """See `Augmentation.mix`."""
        import tensorflow as tf

        draws, sides = uniform(seeds, 5), tuple(batch.pixels.shape[1:3])
        is_erased = draws[:, 0] < self.amount
        low, high = _ERASED
        shares = tf.sqrt(low + (high - low) * draws[:, 1:3]) * tf.cast(is_erased, tf.float32)[:, None]
        rectangles = random_rectangles(shares, draws[:, 3:], sides)
        drawn = {
            "apply_erasing": is_erased,
            "batch_masks": inside(rectangles, sides)[..., None],
            "fill_value": tf.reduce_mean(batch.pixels, axis=(1, 2), keepdims=True),
        }
        return batch._replace(
            pixels=keras_layer("RandomErasing").transform_images(batch.pixels, drawn),
            visible=batch.visible * (1 - share_covered(batch.boxes, rectangles)),
        )


@AUGMENTATIONS.register("grid_mask")
@dataclass(frozen=True)
class GridMask(Augmentation):
    """Fills the squares of a turned grid in a random share (the amount) of the images (Chen et al. 2020).

    The distances, sides and angles of the squares, at most a quarter of the area, are those of keras-cv's
    GridMask by default. Its grid comes from a generator with a state, so that an image would depend on those
    before it, and takes 2.9 times the CPU time.
    """

    rank = 120
    share = True

    amount: float = 0.0

    def change(self, pixels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """See `Augmentation.change`."""
        import tensorflow as tf

        draws, sides = uniform(seeds, 6), tuple(pixels.shape[1:3])
        low, high = sorted((sides[0] * 0.5, sides[1] * 0.3))
        distances = low + (high + 1 - low) * draws[:, 1]
        sizes = 0.5 * draws[:, 2] * tf.cast(draws[:, 0] < self.amount, tf.float32)
        angles = 0.15 * 2 * math.pi * (2 * draws[:, 3] - 1)
        is_masked = grid(sides, distances, sizes, angles, draws[:, 4:])
        mean = tf.reduce_mean(pixels, axis=(1, 2), keepdims=True)
        return tf.where(is_masked[..., None], mean, pixels)


def grid(
    sides: tuple[int, int], distances: tf.Tensor, sizes: tf.Tensor, angles: tf.Tensor, offsets: tf.Tensor
) -> tf.Tensor:
    """Whether each pixel lies in a square of a grid, bool (B, H, W).

    Args:
        sides: height and width of the image.
        distances: pixels from one square to the next, (B,).
        sizes: the squares' sides as shares of the distances, (B,).
        angles: of the grid about the middle of the image, in radians, (B,).
        offsets: of the grid along both sides, as shares of the distances, (B, 2).
    """
    import tensorflow as tf

    rows, columns = (tf.range(side, dtype=tf.float32) - (side - 1) / 2 for side in sides)
    cos, sin = (part(angles)[:, None, None] for part in (tf.cos, tf.sin))
    along = (rows[:, None] * cos + columns * sin, columns * cos - rows[:, None] * sin)

    def is_in(places: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        steps = places / distances[:, None, None] + offset[:, None, None]
        return steps - tf.floor(steps) < sizes[:, None, None]

    return is_in(along[0], offsets[:, 0]) & is_in(along[1], offsets[:, 1])
