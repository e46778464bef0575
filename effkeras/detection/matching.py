"""Anchor matching: training targets from true boxes, vectorised in TensorFlow for tf.data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from effkeras.detection.losses import IGNORED

BACKGROUND = -1
THRESHOLD = 0.5
# Anchor-box pairs compared at once: 16 MiB for each value held per pair.
_PAIRS = 2**22
_NO_BOX = tf.int32.max


class Truth(NamedTuple):
    """The boxes of one image, padded to any number.

    `boxes` is float32 (M, 4): ymin, xmin, ymax, xmax in input pixels; `classes` is int32 (M,), -1 for
    padding; `crowd` is bool (M,).
    """

    boxes: tf.Tensor
    classes: tf.Tensor
    crowd: tf.Tensor


class _Planes(NamedTuple):
    """Coordinates of boxes in separate tensors, which halves the memory traffic of coordinate pairs."""

    top: tf.Tensor
    left: tf.Tensor
    bottom: tf.Tensor
    right: tf.Tensor

    @property
    def areas(self) -> tf.Tensor:
        return (self.bottom - self.top) * (self.right - self.left)


class _Owners(NamedTuple):
    """Per anchor, (N,): its best IoU so far, that box, and the first box that has it as best anchor."""

    iou: tf.Tensor
    box: tf.Tensor
    forced: tf.Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Matcher:
    """Assigns boxes to anchors (N, 4): by best IoU of at least 0.5, and each box to its best anchor.

    Unmatched anchors that a crowd region covers by half or more are ignored.
    """

    anchors: tf.Tensor

    def __call__(self, truth: Truth) -> dict[str, tf.Tensor]:
        """Targets of one image: `class_logits` int32 (N,) and `box_deltas` float32 (N, 5)."""
        counted = (truth.classes >= 0) & ~truth.crowd
        boxes, classes = tf.boolean_mask(truth.boxes, counted), tf.boolean_mask(truth.classes, counted)
        owners = self._owners(boxes)
        positive = (owners.iou >= THRESHOLD) | (owners.forced != _NO_BOX)
        chosen = tf.where(owners.forced != _NO_BOX, owners.forced, owners.box)
        ignored = tf.where(self._is_crowded(tf.boolean_mask(truth.boxes, truth.crowd)), IGNORED, BACKGROUND)
        # Without boxes, every anchor refers to this padding row, and no anchor is positive.
        deltas = self._encode(tf.gather(tf.pad(boxes, [[0, 1], [0, 0]]), chosen))
        mask = tf.cast(positive, tf.float32)[:, None]
        return {
            "class_logits": tf.where(positive, tf.gather(tf.pad(classes, [[0, 1]]), chosen), ignored),
            "box_deltas": tf.concat([tf.where(positive[:, None], deltas, 0.0), mask], axis=-1),
        }

    def _owners(self, boxes: tf.Tensor) -> _Owners:
        anchors = self._planes()

        def compare(owners: _Owners, few: tf.Tensor, first: tf.Tensor) -> _Owners:
            return _compare(owners, _ious(anchors, _columns(few)), first)

        start = _Owners(
            tf.fill(tf.shape(self.anchors)[:1], -1.0),
            tf.zeros(tf.shape(self.anchors)[:1], tf.int32),
            tf.fill(tf.shape(self.anchors)[:1], _NO_BOX),
        )
        return self._in_chunks(compare, start, boxes)

    def _is_crowded(self, crowds: tf.Tensor) -> tf.Tensor:
        anchors = self._planes()

        def cover(crowded: tf.Tensor, few: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
            covered = _overlaps(anchors, _columns(few)) / anchors.areas
            return crowded | tf.reduce_any(covered >= THRESHOLD, axis=0)

        return self._in_chunks(cover, tf.zeros(tf.shape(self.anchors)[:1], tf.bool), crowds)

    def _in_chunks(self, step: Callable[..., Any], start: Any, boxes: tf.Tensor) -> Any:
        """Runs `step(state, chunk of boxes, index of its first)` over all chunks, to bound memory."""
        size = max(1, _PAIRS // int(self.anchors.shape[0]))
        count = tf.shape(boxes)[0]
        _, end = tf.while_loop(
            lambda first, _: first < count,
            lambda first, state: (first + size, step(state, boxes[first : first + size], first)),
            (tf.constant(0), start),
            parallel_iterations=1,
        )
        return end

    def _planes(self) -> _Planes:
        return _Planes(*tf.unstack(self.anchors, axis=1))

    def _encode(self, boxes: tf.Tensor) -> tf.Tensor:
        sizes = self.anchors[:, 2:] - self.anchors[:, :2]
        box_sizes = tf.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)  # padding has zero size
        centers = (self.anchors[:, 2:] + self.anchors[:, :2]) / 2
        offsets = ((boxes[:, 2:] + boxes[:, :2]) / 2 - centers) / sizes
        return tf.concat([offsets, tf.math.log(box_sizes / sizes)], axis=-1)


def _columns(boxes: tf.Tensor) -> _Planes:
    """Boxes (m, 4) as planes (m, 1), for comparison with anchors (N,)."""
    return _Planes(*(plane[:, None] for plane in tf.unstack(boxes, axis=1)))


def _overlaps(anchors: _Planes, boxes: _Planes) -> tf.Tensor:
    """Overlap areas, (m, N) in square pixels."""
    height = tf.minimum(anchors.bottom, boxes.bottom) - tf.maximum(anchors.top, boxes.top)
    width = tf.minimum(anchors.right, boxes.right) - tf.maximum(anchors.left, boxes.left)
    return tf.maximum(height, 0.0) * tf.maximum(width, 0.0)


def _ious(anchors: _Planes, boxes: _Planes) -> tf.Tensor:
    overlap = _overlaps(anchors, boxes)
    return tf.math.divide_no_nan(overlap, anchors.areas + boxes.areas - overlap)


def _compare(owners: _Owners, ious: tf.Tensor, first: tf.Tensor) -> _Owners:
    """The owners after a chunk of boxes that starts at number `first`; on a tie the earlier box wins."""
    best = tf.reduce_max(ious, axis=0)
    box = first + tf.argmax(ious, axis=0, output_type=tf.int32)
    better = best > owners.iou
    anchor = tf.argmax(ious, axis=1, output_type=tf.int32)
    # A box that overlaps no anchor gets none.
    number = tf.where(tf.reduce_max(ious, axis=1) > 0, first + tf.range(tf.shape(ious)[0]), _NO_BOX)
    return _Owners(
        tf.where(better, best, owners.iou),
        tf.where(better, box, owners.box),
        tf.tensor_scatter_nd_min(owners.forced, anchor[:, None], number),
    )
