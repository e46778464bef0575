"""Augmentations that change the colours of an image: contrast, color, brightness and hsv."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation, Recolor
from effkeras.data.augmentations.batches import uniform

if TYPE_CHECKING:
    import tensorflow as tf


@AUGMENTATIONS.register("contrast")
@dataclass(frozen=True)
class Contrast(Augmentation):
    """Scales the distance to the mean colour by a random factor of 1 - amount to 1 + amount."""

    shared = slice(4, 5)

    amount: float = 0.2

    def recolor(self, draws: tf.Tensor) -> Recolor:
        """See `Augmentation.recolor`."""
        return Recolor(factor=1 + self.amount * _signed(draws))


@AUGMENTATIONS.register("color")
@dataclass(frozen=True)
class Color(Contrast):
    """Changes the contrast of each channel separately."""

    draws = 3
    shared = slice(5, 8)

    amount: float = 0.05


@AUGMENTATIONS.register("brightness")
@dataclass(frozen=True)
class Brightness(Augmentation):
    """Adds a random value between -amount and amount, as a share of 255."""

    shared = slice(8, 9)

    amount: float = 0.1

    def recolor(self, draws: tf.Tensor) -> Recolor:
        """See `Augmentation.recolor`."""
        return Recolor(shift=255 * (self.amount * _signed(draws)))


@AUGMENTATIONS.register("hsv")
@dataclass(frozen=True)
class Hsv(Augmentation):
    """Turns the hue by up to the first amount (1 is the whole circle), and scales saturation and value.

    The factors lie between 1 - amount and 1 + amount, by the second and third. The result is that of Keras's
    RandomHue and RandomSaturation; TensorFlow's own operations take 0.37 of their CPU time.
    """

    rank = 110

    amount: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def change(self, pixels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """See `Augmentation.change`."""
        import tensorflow as tf

        signed = 2 * uniform(seeds, 3) - 1
        return changed_hsv(pixels, signed * [self.amount] + tf.constant([[0.0, 1.0, 1.0]]))


def changed_hsv(pixels: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
    """Images (B, H, W, 3) in 0..255 after `changes`, (B, 3): turn of hue, factors of saturation and value."""
    import tensorflow as tf

    def one(of: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, change = of
        turned = tf.image.adjust_saturation(tf.image.adjust_hue(image, change[0]), change[1])
        return tf.clip_by_value(turned * change[2], 0.0, 255.0)

    return tf.map_fn(one, (pixels, changes), fn_output_signature=tf.float32)


def _signed(draws: tf.Tensor) -> tf.Tensor:
    """(B, n) numbers in 0..1 as (B, 1, 1, n) in -1..1."""
    return (2 * draws - 1)[:, None, None, :]
