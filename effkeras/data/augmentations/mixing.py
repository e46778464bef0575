"""Augmentations that mix two images of a batch: mixup and cutmix.

A classifier's targets become shares of classes. A detector's image has the boxes of both images; the loss
ignores those of which little is left to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation
from effkeras.data.augmentations.batches import (
    Batch,
    cut,
    inside,
    keras_layer,
    random_rectangles,
    share_covered,
    uniform,
)

if TYPE_CHECKING:
    import tensorflow as tf

_MIN_WEIGHT = 0.3  # a pixel's class is certain if the other image has less weight


@dataclass(frozen=True)
class _Mixture(Augmentation):
    """The amount: the share of the images that are mixed, and alpha of Beta(alpha, alpha), their weights."""

    amount: tuple[float, float]

    @property
    def softens(self) -> bool:
        """See `Augmentation.softens`."""
        return self.amount[0] > 0

    def problem(self) -> str:
        """See `Augmentation.problem`."""
        share, alpha = self.amount
        return "" if 0 <= share <= 1 and alpha > 0 else "must be a share from 0 to 1 and an alpha above 0"

    def _drawn(self, batch: Batch, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Of each image its weight, float32 (B,), the other image, int32 (B,), and two numbers in 0..1."""
        import tensorflow as tf

        draws, count = uniform(seeds, 4), tf.shape(batch.pixels)[0]
        others = tf.cast(draws[:, 1] * tf.cast(count, tf.float32), tf.int32)
        weights = _beta(seeds, self.amount[1])
        is_mixed = draws[:, 0] < self.amount[0]
        return tf.where(is_mixed, weights, 1.0), tf.minimum(others, count - 1), draws[:, 2:]


@AUGMENTATIONS.register("mixup")
@dataclass(frozen=True)
class Mixup(_Mixture):
    """Blends a random share of the images with another of the batch (Zhang et al. 2018), by Keras's MixUp.

    A detector's image has the boxes of both (Zhang et al. 2019, "Bag of freebies"); the loss ignores those of
    an image with a weight below 0.3. A pixel's class is that of the stronger image, and unknown where the
    weaker one has another and a weight of 0.3 or more.
    """

    rank = 210

    amount: tuple[float, float] = (0.0, 0.2)

    def mix(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """See `Augmentation.mix`."""
        import tensorflow as tf

        weights, others, _ = self._drawn(batch, seeds)
        layer, drawn = keras_layer("MixUp"), {"mix_weight": weights, "permutation_order": others}
        shares = tf.concat(
            [batch.visible * weights[:, None], tf.gather(batch.visible, others) * (1 - weights[:, None])], 1
        )
        return _both(batch, others)._replace(
            pixels=layer.transform_images(batch.pixels, drawn),
            labels=_stronger(batch.labels, weights, others),
            targets=None if batch.targets is None else layer.transform_labels(batch.targets, drawn),
            visible=shares,
        )


@AUGMENTATIONS.register("cutmix")
@dataclass(frozen=True)
class Cutmix(_Mixture):
    """Pastes a rectangle of another image of the batch into a random share of them (Yun et al. 2019).

    Keras's CutMix changes the pixels; it cannot do boxes. Boxes of the other image are cut at the rectangle.
    Own boxes that it covers keep their extent.
    """

    rank = 220

    amount: tuple[float, float] = (0.0, 1.0)

    def mix(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """See `Augmentation.mix`."""
        import tensorflow as tf

        weights, others, places = self._drawn(batch, seeds)
        sides = tuple(batch.pixels.shape[1:3])
        side = tf.sqrt(1 - weights)[:, None]
        rectangles = random_rectangles(tf.concat([side, side], axis=1), places, sides)
        is_pasted = inside(rectangles, sides)
        low, high = rectangles[:, None, :2], rectangles[:, None, 2:]
        boxes, share = cut(tf.gather(batch.boxes, others), low, high)
        own = batch.visible * (1 - share_covered(batch.boxes, rectangles))
        layer = keras_layer("CutMix")
        pasted = tf.reduce_mean(tf.cast(is_pasted, tf.float32), axis=(1, 2))
        drawn = {
            "permutation_order": others,
            "batch_masks": is_pasted[..., None],
            "mix_weight": 1 - pasted,
        }
        labels = batch.labels
        if labels.shape[1]:
            labels = tf.where(is_pasted, tf.gather(labels, others), labels)
        return _both(batch, others)._replace(
            pixels=layer.transform_images(batch.pixels, drawn),
            boxes=tf.concat([batch.boxes, boxes], axis=1),
            labels=labels,
            targets=None if batch.targets is None else layer.transform_labels(batch.targets, drawn),
            visible=tf.concat([own, tf.gather(batch.visible, others) * share], axis=1),
        )


def _both(batch: Batch, others: tf.Tensor) -> Batch:
    """The batch with the boxes of the other images behind its own."""
    import tensorflow as tf

    boxes, classes, crowd = (
        tf.concat([values, tf.gather(values, others)], axis=1)
        for values in (batch.boxes, batch.classes, batch.crowd)
    )
    return batch._replace(boxes=boxes, classes=classes, crowd=crowd)


def _stronger(labels: tf.Tensor, weights: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Label maps (B, H, W) of the image with more weight, unknown where the other has a say too."""
    import tensorflow as tf

    from effkeras.data.masks import IGNORED  # loads Pillow, which settings do not need

    if not labels.shape[1]:
        return labels
    other, weight = tf.gather(labels, others), weights[:, None, None]
    is_unsure = (labels != other) & (tf.minimum(weight, 1 - weight) >= _MIN_WEIGHT)
    return tf.where(is_unsure, tf.constant(IGNORED, tf.uint8), tf.where(weight >= 0.5, labels, other))


def _beta(seeds: tf.Tensor, alpha: float) -> tf.Tensor:
    """Numbers in 0..1 from Beta(alpha, alpha), (B,)."""
    import tensorflow as tf

    gammas = tf.map_fn(
        lambda seed: tf.random.stateless_gamma((2,), seed, alpha), seeds, fn_output_signature=tf.float32
    )
    # With a small alpha both may be 0 in float32: either image then counts alone.
    return (gammas[:, 0] + 1e-30) / (gammas[:, 0] + gammas[:, 1] + 1e-30)
