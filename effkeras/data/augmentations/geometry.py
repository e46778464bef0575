"""Augmentations that move an image with its boxes and label map: scale, flip and vertical_flip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation, Move

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
