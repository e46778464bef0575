"""Which random changes training images go through, as data (no TensorFlow needed to read it)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AugmentSpec:
    """Which changes, and how large.

    `scale` is the range of the zoom (log-uniform), `flip` mirrors half of the images, `brightness`
    shifts by up to that share of 255, `contrast` multiplies by 1 plus or minus that much, and `color`
    does so per channel.
    """

    flip: bool = True
    scale: tuple[float, float] = (0.8, 1.25)
    brightness: float = 0.1
    contrast: float = 0.2
    color: float = 0.05
