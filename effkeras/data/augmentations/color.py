"""Augmentations that change the colours of an image: contrast, color and brightness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation, Recolor

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


def _signed(draws: tf.Tensor) -> tf.Tensor:
    """(B, n) numbers in 0..1 as (B, 1, 1, n) in -1..1."""
    return (2 * draws - 1)[:, None, None, :]
