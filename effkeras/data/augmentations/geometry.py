"""Augmentations that move an image with its boxes and label map: scale, crop, flips and quarter turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation, Move
from effkeras.data.augmentations.batches import Batch, uniform

if TYPE_CHECKING:
    import tensorflow as tf


@AUGMENTATIONS.register("scale")
@dataclass(frozen=True)
class Scale(Augmentation):
    """Zooms by a random factor between two limits (log-uniform), at a random position of the frame."""

    draws = 3
    shared = slice(0, 3)
    rank = 1

    amount: tuple[float, float] = (0.8, 1.25)

    def problem(self) -> str:
        """See `Augmentation.problem`."""
        return "" if min(self.amount) > 0 else "must be two factors above 0"

    def move(self, draws: tf.Tensor, size: tuple[int, int]) -> Move:
        """See `Augmentation.move`."""
        import tensorflow as tf

        low, high = (tf.math.log(tf.constant(end, tf.float32)) for end in self.amount)
        zoom = tf.exp(low + draws[:, 0:1] * (high - low))
        # An enlarged image shows a part of itself; a shrunk one lies somewhere in the frame.
        room = tf.constant([size], tf.float32) * (1 - zoom)
        return Move(zoom, room * draws[:, 1:3])


@AUGMENTATIONS.register("flip")
@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors a random half of the images left to right."""

    shared = slice(3, 4)
    rank = 2

    amount: bool = True

    def move(self, draws: tf.Tensor, size: tuple[int, int]) -> Move | None:
        """See `Augmentation.move`."""
        import tensorflow as tf

        if not self.amount:
            return None
        is_mirrored = draws < 0.5
        sign = tf.where(is_mirrored, [[1.0, -1.0]], [[1.0, 1.0]])
        return Move(sign, tf.where(is_mirrored, [[0.0, float(size[1])]], 0.0))


@AUGMENTATIONS.register("vertical_flip")
@dataclass(frozen=True)
class VerticalFlip(Augmentation):
    """Mirrors a random half of the images top to bottom: for images without an up, as from a microscope."""

    rank = 3

    amount: bool = False

    def move(self, draws: tf.Tensor, size: tuple[int, int]) -> Move | None:
        """See `Augmentation.move`."""
        import tensorflow as tf

        is_mirrored = draws < 0.5
        sign = tf.where(is_mirrored, [[-1.0, 1.0]], [[1.0, 1.0]])
        return Move(sign, tf.where(is_mirrored, [[float(size[0]), 0.0]], 0.0))


@AUGMENTATIONS.register("crop")
@dataclass(frozen=True)
class Crop(Augmentation):
    """Enlarges a random part of the image to the whole (Szegedy et al. 2015): the usual one for ImageNet.

    The amount is the part's least and largest share of the area. Its width is 3/4 to 4/3 of its height
    (log-uniform), relative to the image's proportions and as far as the image reaches.
    """

    draws = 4
    rank = 4

    amount: tuple[float, float] = (1.0, 1.0)

    def problem(self) -> str:
        """See `Augmentation.problem`."""
        low, high = self.amount
        return "" if 0 < low <= high <= 1 else "must be two shares of the area above 0 and up to 1"

    def move(self, draws: tf.Tensor, size: tuple[int, int]) -> Move:
        """See `Augmentation.move`."""
        import tensorflow as tf

        low, high = self.amount
        area = low + (high - low) * draws[:, 0]
        proportion = (4 / 3) ** (2 * draws[:, 1] - 1)
        sides = tf.sqrt(tf.stack([area / proportion, area * proportion], axis=1))
        zoom = 1 / tf.minimum(sides, 1.0)
        return Move(zoom, tf.constant([size], tf.float32) * (1 - zoom) * draws[:, 2:])


@AUGMENTATIONS.register("rotate90")
@dataclass(frozen=True)
class Rotate90(Augmentation):
    """Turns images by 0, 90, 180 or 270 degrees, if not square only by 0 or 180: for images without an up."""

    rank = 205
    per_image = True

    amount: bool = False

    def mix(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """See `Augmentation.mix`."""
        import tensorflow as tf

        height, width = (float(side) for side in batch.pixels.shape[1:3])
        quarters = tf.cast(uniform(seeds, 1)[:, 0] * 4, tf.int32)
        # Two quarters mirror both axes; one more quarter is the transposed image with its columns mirrored.
        is_half = quarters >= 2
        is_quarter = (quarters % 2 == 1) & (height == width)
        is_mirrored = is_half != is_quarter

        def turned(images: tf.Tensor) -> tf.Tensor:
            if not images.shape[1]:
                return images
            if height == width:
                order = [0, 2, 1, *range(3, len(images.shape))]
                images = _where(is_quarter, tf.transpose(images, order), images)
            images = _where(is_half, images[:, ::-1], images)
            return _where(is_mirrored, images[:, :, ::-1], images)

        top, left, bottom, right = (batch.boxes[..., side] for side in range(4))
        boxes = _where(is_quarter, tf.stack([left, top, right, bottom], axis=-1), batch.boxes)
        top, left, bottom, right = (boxes[..., side] for side in range(4))
        boxes = _where(is_half, tf.stack([height - bottom, left, height - top, right], axis=-1), boxes)
        top, left, bottom, right = (boxes[..., side] for side in range(4))
        boxes = _where(is_mirrored, tf.stack([top, width - right, bottom, width - left], axis=-1), boxes)
        return batch._replace(pixels=turned(batch.pixels), boxes=boxes, labels=turned(batch.labels))


def _where(chosen: tf.Tensor, changed: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Of each image or set of boxes one of two, by `chosen`, bool (B,)."""
    import tensorflow as tf

    return tf.where(tf.reshape(chosen, (-1, *[1] * (len(kept.shape) - 1))), changed, kept)
