"""Which anchor learns which box: training targets, vectorised in TensorFlow for tf.data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from effkeras.detection.losses import IGNORED

BACKGROUND = -1
THRESHOLD = 0.5


class Truth(NamedTuple):
    """The boxes of one picture, padded to a fixed number.

    `boxes` is float32 (M, 4): ymin, xmin, ymax, xmax in input pixels; `classes` is int32 (M,), -1 for
    padding; `crowd` is bool (M,).
    """

    boxes: tf.Tensor
    classes: tf.Tensor
    crowd: tf.Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Matcher:
    """Assigns boxes to anchors (N, 4): best IoU of at least 0.5, and for each box its best anchor.

    Anchors half covered by a crowd region and matched to nothing are ignored.
    """

    anchors: tf.Tensor

    def __call__(self, truth: Truth) -> dict[str, tf.Tensor]:
        """Targets of one picture: `class_logits` int32 (N,) and `box_deltas` float32 (N, 5)."""
        countable = (truth.classes >= 0) & ~truth.crowd
        overlaps = tf.where(countable[None], self._ious(truth.boxes), -1.0)
        chosen, positive = _assign(overlaps)
        classes = tf.gather(truth.classes, chosen)
        ignored = tf.where(self._is_crowded(truth), IGNORED, BACKGROUND)
        deltas = self._encode(tf.gather(truth.boxes, chosen))
        mask = tf.cast(positive, tf.float32)[:, None]
        return {
            "class_logits": tf.where(positive, classes, ignored),
            "box_deltas": tf.concat([tf.where(positive[:, None], deltas, 0.0), mask], axis=-1),
        }

    def _ious(self, boxes: tf.Tensor) -> tf.Tensor:
        overlap = self._overlaps(boxes)
        union = _areas(self.anchors)[:, None] + _areas(boxes)[None] - overlap
        return tf.math.divide_no_nan(overlap, union)

    def _overlaps(self, boxes: tf.Tensor) -> tf.Tensor:
        low = tf.maximum(self.anchors[:, None, :2], boxes[None, :, :2])
        high = tf.minimum(self.anchors[:, None, 2:], boxes[None, :, 2:])
        return tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)

    def _is_crowded(self, truth: Truth) -> tf.Tensor:
        covered = self._overlaps(truth.boxes) / _areas(self.anchors)[:, None]
        return tf.reduce_any((covered >= THRESHOLD) & truth.crowd[None], axis=-1)

    def _encode(self, boxes: tf.Tensor) -> tf.Tensor:
        sizes = self.anchors[:, 2:] - self.anchors[:, :2]
        box_sizes = tf.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)  # padding has no size
        centers = (self.anchors[:, 2:] + self.anchors[:, :2]) / 2
        offsets = ((boxes[:, 2:] + boxes[:, :2]) / 2 - centers) / sizes
        return tf.concat([offsets, tf.math.log(box_sizes / sizes)], axis=-1)


def _assign(overlaps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The box of each anchor, and whether it is a match; a box's best anchor is one whatever its IoU."""
    best_box = tf.argmax(overlaps, axis=1, output_type=tf.int32)
    positive = tf.reduce_max(overlaps, axis=1) >= THRESHOLD
    best_anchor = tf.argmax(overlaps, axis=0, output_type=tf.int32)
    anchor_count, box_count = tf.shape(overlaps)[0], tf.shape(overlaps)[1]
    wanted = tf.reduce_max(overlaps, axis=0) > 0
    is_forced = tf.one_hot(best_anchor, anchor_count, on_value=True, off_value=False, axis=0, dtype=tf.bool)
    is_forced &= wanted[None]
    forced_box = tf.argmax(tf.cast(is_forced, tf.int32), axis=1, output_type=tf.int32)
    is_any = tf.reduce_any(is_forced, axis=1)
    chosen = tf.where(is_any, forced_box, best_box)
    return tf.minimum(chosen, box_count - 1), positive | is_any


def _areas(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
