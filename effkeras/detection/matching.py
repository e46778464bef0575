"""Anchor matching: training targets from true boxes, vectorised in TensorFlow for tf.data.

Anchors lie on grids, so their overlap with a box is a height that depends on the row alone, times a width
that depends on the column alone. The best column bounds the IoU of a row and the best row that of a column.
Only anchors that can reach an IoU of a half, or the best of their box, are compared with it: some hundred of
19,206 at 320 pixels. The targets are those of a comparison of every anchor with every box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf

from effkeras.detection.losses import IGNORED

BACKGROUND = -1
THRESHOLD = 0.5
# Bounds round otherwise than IoUs: what is so little below a limit is compared, too.
_SLACK = 1 - 1e-4
# Anchor-crowd pairs at once, because crowds may cover all anchors: 16 MiB for each value held per pair.
_PAIRS = 2**22
_NO_BOX = tf.int32.max


class Truth(NamedTuple):
    """The boxes of the images of a batch, padded to any number.

    `boxes` is float32 (B, M, 4): ymin, xmin, ymax, xmax in input pixels; `classes` is int32 (B, M), -1 for
    padding; `crowd` is bool (B, M).
    """

    boxes: tf.Tensor
    classes: tf.Tensor
    crowd: tf.Tensor


class _Planes(NamedTuple):
    """Coordinates of boxes in separate tensors of one shape, which halves the memory traffic of pairs."""

    top: tf.Tensor
    left: tf.Tensor
    bottom: tf.Tensor
    right: tf.Tensor

    @property
    def areas(self) -> tf.Tensor:
        return (self.bottom - self.top) * (self.right - self.left)

    def take(self, indices: tf.Tensor) -> _Planes:
        return _Planes(*(tf.gather(plane, indices) for plane in self))


class _Pairs(NamedTuple):
    """Pairs of an anchor, by its number in an image, and a box of a list: both int32 (P,)."""

    anchor: tf.Tensor
    box: tf.Tensor


class _Shared(NamedTuple):
    """The heights (T, R, K) and widths (T, C, K) that rows and columns of a level share with T boxes."""

    heights: tf.Tensor
    widths: tf.Tensor

    @property
    def most(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The largest height and width, (T, 1, K)."""
        return tuple(tf.reduce_max(side, axis=1, keepdims=True) for side in self)


@dataclass(frozen=True, eq=False, slots=True)
class _Level:
    """A grid of anchors, K at each location; the first has the number `first`.

    `rows` is float32 (R, K, 2), top and bottom; `columns` is (C, K, 2), left and right. `areas`, (K,), holds
    for all locations up to rounding.
    """

    first: int
    rows: np.ndarray
    columns: np.ndarray
    areas: np.ndarray

    @classmethod
    def of(cls, anchors: np.ndarray, first: int) -> Self:
        """The level of anchors (R, C, K, 4)."""
        rows, columns = anchors[:, :1, :, 0::2], anchors[:1, :, :, 1::2]
        if not (np.allclose(anchors[..., 0::2], rows) and np.allclose(anchors[..., 1::2], columns)):
            raise ValueError(f"anchors of the shape {anchors.shape} are no grid")
        sizes = anchors[0, 0, :, 2:] - anchors[0, 0, :, :2]
        return cls(first, rows[:, 0], columns[0], sizes[:, 0] * sizes[:, 1])

    def shared(self, boxes: _Planes) -> _Shared:
        """What rows and columns share with boxes (T,)."""
        rows, columns = self.rows, self.columns
        heights = tf.minimum(rows[..., 1], _deep(boxes.bottom)) - tf.maximum(rows[..., 0], _deep(boxes.top))
        widths = tf.minimum(columns[..., 1], _deep(boxes.right)) - tf.maximum(
            columns[..., 0], _deep(boxes.left)
        )
        return _Shared(tf.maximum(heights, 0.0), tf.maximum(widths, 0.0))


_CHOSEN = tf.TensorSpec((None, None, None), tf.bool)


# A function of TensorFlow's, so that it is traced once and not for each level.
@tf.function(input_signature=(_CHOSEN, _CHOSEN, tf.TensorSpec((), tf.int32)), autograph=False)
def _pairs(rows: tf.Tensor, columns: tf.Tensor, begin: tf.Tensor) -> _Pairs:
    """The anchors of a level in chosen rows, (T, R, K), from the first to the last chosen column, (T, C, K).

    The level begins with the anchor `begin`. Columns whose overlap can reach a limit lie side by side.
    """
    count, kinds = tf.unstack(tf.shape(columns)[1:])
    first = tf.argmax(columns, axis=1, output_type=tf.int32)
    after = count - tf.argmax(columns[:, ::-1], axis=1, output_type=tf.int32)
    widths = tf.where(tf.reduce_any(columns, axis=1), after - first, 0)
    box, row, kind = tf.unstack(tf.cast(tf.where(rows), tf.int32), axis=1)
    width = tf.gather(tf.reshape(widths, [-1]), box * kinds + kind)
    start = tf.gather(tf.reshape(first, [-1]), box * kinds + kind)
    # One entry for each chosen column of each chosen row.
    line = tf.repeat(tf.range(tf.size(width)), width)
    column = tf.range(tf.size(line)) + tf.gather(start - tf.cumsum(width, exclusive=True), line)
    own = begin + row * (count * kinds) + kind
    return _Pairs(tf.gather(own, line) + column * kinds, tf.gather(box, line))


@dataclass(frozen=True, eq=False, slots=True)
class Matcher:
    """Assigns boxes to anchors: by best IoU of at least 0.5, and each box to its best anchor.

    Of equal IoUs the first counts. Unmatched anchors that a crowd region covers by half or more are ignored.
    """

    anchors: _Planes
    levels: tuple[_Level, ...]

    @classmethod
    def of(cls, anchors: np.ndarray, sizes: Sequence[tuple[int, int]] = ((1, 1),)) -> Self:
        """A matcher for anchors.

        Args:
            anchors: float32 (N, 4), in the order of `effkeras.detection.boxes.anchor_boxes`.
            sizes: rows and columns of each level; by default the anchors lie anywhere, which is slow.
        """
        kinds = len(anchors) // sum(rows * columns for rows, columns in sizes)
        levels, first = [], 0
        for rows, columns in sizes:
            after = first + rows * columns * kinds
            levels.append(_Level.of(anchors[first:after].reshape(rows, columns, kinds, 4), first))
            first = after
        return cls(_Planes(*map(tf.constant, anchors.T)), tuple(levels))

    def __call__(self, truth: Truth) -> dict[str, tf.Tensor]:
        """Targets of the images: `class_logits` int32 (B, N) and `box_deltas` float32 (B, N, 5)."""
        images, count = tf.shape(truth.classes)[0], self.anchors.top.shape[0]
        is_counted = (truth.classes >= 0) & ~truth.crowd
        boxes, classes = tf.boolean_mask(truth.boxes, is_counted), tf.boolean_mask(truth.classes, is_counted)
        owners = self._owners(boxes, _images_of(is_counted), images * count)
        positive = tf.cast(tf.where(owners != _NO_BOX)[:, 0], tf.int32)
        chosen = tf.gather(owners, positive)
        deltas = _encoded(_planes(tf.gather(boxes, chosen)), self.anchors.take(positive % count))
        crowded = self._is_crowded(tf.boolean_mask(truth.boxes, truth.crowd), _images_of(truth.crowd), images)
        labels = tf.where(crowded, IGNORED, BACKGROUND)
        labels = tf.tensor_scatter_nd_update(labels, positive[:, None], tf.gather(classes, chosen))
        return {
            "class_logits": tf.ensure_shape(tf.reshape(labels, (images, count)), (None, count)),
            "box_deltas": tf.ensure_shape(
                tf.reshape(tf.scatter_nd(positive[:, None], deltas, (images * count, 5)), (images, count, 5)),
                (None, count, 5),
            ),
        }

    def _owners(self, corners: tf.Tensor, images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """The box of each anchor of all images, int32 (size,), or `_NO_BOX`; boxes (T, 4) of images (T,)."""
        boxes, nowhere = _planes(corners), tf.fill([size], _NO_BOX)
        pairs = self._candidates(boxes)
        ious = _ious(self.anchors.take(pairs.anchor), boxes.take(pairs.box))
        places = tf.gather(images, pairs.box) * self.anchors.top.shape[0] + pairs.anchor
        best = tf.tensor_scatter_nd_max(tf.fill([size], THRESHOLD), places[:, None], ious)
        is_best = ious == tf.gather(best, places)
        owners = _first(nowhere, tf.boolean_mask(places, is_best), tf.boolean_mask(pairs.box, is_best))
        # A box that overlaps no anchor is in no pair, and gets none.
        is_best = ious == tf.gather(tf.math.unsorted_segment_max(ious, pairs.box, tf.size(images)), pairs.box)
        box, place = tf.boolean_mask(pairs.box, is_best), tf.boolean_mask(places, is_best)
        place = tf.math.unsorted_segment_min(place, box, tf.size(images))
        has_any = place != _NO_BOX
        numbers = tf.boolean_mask(tf.range(tf.size(images)), has_any)
        forced = _first(nowhere, tf.boolean_mask(place, has_any), numbers)
        return tf.where(forced != _NO_BOX, forced, owners)

    def _candidates(self, boxes: _Planes) -> _Pairs:
        """The pairs that may have an IoU of at least 0.5, or the best of a box and above 0."""
        areas = _deep(boxes.areas)
        shared = [level.shared(boxes) for level in self.levels]

        def bound(overlap: tf.Tensor, level: _Level) -> tf.Tensor:
            return tf.math.divide_no_nan(overlap, level.areas + areas - overlap)

        tops = [bound(tf.multiply(*one.most), level) for one, level in zip(shared, self.levels, strict=True)]
        best = tf.reduce_max(tf.concat(tops, axis=2), axis=2, keepdims=True)
        needed = tf.where(best > 0, _SLACK * tf.minimum(best, THRESHOLD), 2.0)
        found = []
        for one, level in zip(shared, self.levels, strict=True):
            height, width = one.most
            rows = bound(one.heights * width, level) >= needed
            found.append(_pairs(rows, bound(height * one.widths, level) >= needed, level.first))
        return _joined(found)

    def _is_crowded(self, crowds: tf.Tensor, images: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Whether crowds (T, 4) of images (T,) cover half of each anchor: bool (count * N,)."""
        anchors = self.anchors.top.shape[0]
        size = max(1, _PAIRS // anchors)

        def cover(first: tf.Tensor, crowded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            boxes = _planes(crowds[first : first + size])
            pairs = self._covered(boxes)
            own = self.anchors.take(pairs.anchor)
            covered = _overlaps(own, boxes.take(pairs.box)) / own.areas >= THRESHOLD
            places = tf.gather(images, first + pairs.box) * anchors + pairs.anchor
            places = tf.boolean_mask(places, covered)[:, None]
            there = tf.ones_like(places[:, 0], tf.bool)
            return first + size, tf.tensor_scatter_nd_update(crowded, places, there)

        none = tf.zeros([count * anchors], tf.bool)
        total = tf.shape(crowds)[0]
        loop = (tf.constant(0), none)
        return tf.while_loop(lambda first, _: first < total, cover, loop, parallel_iterations=1)[1]

    def _covered(self, crowds: _Planes) -> _Pairs:
        """The pairs in which a crowd covers half of an anchor's height and half of its width."""
        found = []
        for level in self.levels:
            shared, least = level.shared(crowds), _SLACK * THRESHOLD
            rows = shared.heights >= least * (level.rows[..., 1] - level.rows[..., 0])
            columns = shared.widths >= least * (level.columns[..., 1] - level.columns[..., 0])
            found.append(_pairs(rows, columns, level.first))
        return _joined(found)


def _images_of(chosen: tf.Tensor) -> tf.Tensor:
    """The image of each chosen box, bool (B, M) to int32 (T,)."""
    return tf.cast(tf.where(chosen)[:, 0], tf.int32)


def _planes(boxes: tf.Tensor) -> _Planes:
    return _Planes(*tf.unstack(boxes, axis=1))


def _deep(values: tf.Tensor) -> tf.Tensor:
    """(T,) as (T, 1, 1), for comparison with rows and columns of a level."""
    return values[:, None, None]


def _joined(pairs: Sequence[_Pairs]) -> _Pairs:
    return _Pairs(*(tf.concat(part, axis=0) for part in zip(*pairs, strict=True)))


def _first(nowhere: tf.Tensor, places: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """The first box at each place."""
    return tf.tensor_scatter_nd_min(nowhere, places[:, None], boxes)


def _overlaps(anchors: _Planes, boxes: _Planes) -> tf.Tensor:
    """Overlap areas of pairs, (P,) in square pixels."""
    height = tf.minimum(anchors.bottom, boxes.bottom) - tf.maximum(anchors.top, boxes.top)
    width = tf.minimum(anchors.right, boxes.right) - tf.maximum(anchors.left, boxes.left)
    return tf.maximum(height, 0.0) * tf.maximum(width, 0.0)


def _ious(anchors: _Planes, boxes: _Planes) -> tf.Tensor:
    overlap = _overlaps(anchors, boxes)
    return tf.math.divide_no_nan(overlap, anchors.areas + boxes.areas - overlap)


def _encoded(boxes: _Planes, anchors: _Planes) -> tf.Tensor:
    """The deltas of boxes from anchors, and 1 for the mask: float32 (Q, 5)."""
    height, width = anchors.bottom - anchors.top, anchors.right - anchors.left
    y = ((boxes.bottom + boxes.top) / 2 - (anchors.bottom + anchors.top) / 2) / height
    x = ((boxes.right + boxes.left) / 2 - (anchors.right + anchors.left) / 2) / width
    tall = tf.math.log(tf.maximum(boxes.bottom - boxes.top, 1e-3) / height)
    wide = tf.math.log(tf.maximum(boxes.right - boxes.left, 1e-3) / width)
    return tf.stack([y, x, tall, wide, tf.ones_like(y)], axis=1)
