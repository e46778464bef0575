"""Applies augmentations to a batch of images and their boxes, with Keras's image operations.

Each change depends only on a seed per image, so a resumed training gets exactly the same images as an
uninterrupted one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

import keras
import tensorflow as tf

from effkeras.data.augmentations import Augmentation, AugmentSpec, Move, Recolor
from effkeras.data.augmentations.batches import Batch, cut, uniform
from effkeras.data.masks import IGNORED

# A box that is mostly cut off has a misleading extent: below this visible share the loss ignores it.
_MIN_VISIBLE = 0.3
# An object shrunk below half its size, to fewer pixels than this a side, has lost what it is known by.
_MIN_SHRUNK, _MIN_SIDE = 0.5, 4.0
# Random numbers per image in the stream that the first augmentations share, a slice for each.
_SHARED_DRAWS = 11


def augment(batch: Batch, seeds: tf.Tensor, spec: AugmentSpec, fill: tuple[float, ...]) -> Batch:
    """Changes each image by its own seed; boxes that are mostly hidden or shrunk to specks become crowds.

    Mixtures such as `mosaic` take their other images from the batch.

    Args:
        batch: float pixels 0..255 and boxes, or a classifier's `targets`.
        seeds: int32 (B, 2).
        spec: the augmentations.
        fill: RGB colour of pixels outside the image.
    """
    size = tuple(batch.pixels.shape[1:3])
    drawn = _draw(seeds, spec)
    move = _move(drawn, size)
    boxes, visible = _move_boxes(batch.boxes, move, size)
    frames = batch.frames if batch.frames is not None else tf.constant([[0, 0, *size]], tf.float32)
    batch = batch._replace(
        pixels=_recolored(_move_pixels(batch.pixels, move, fill), drawn),
        boxes=boxes,
        crowd=batch.crowd | _is_speck(boxes, move),
        labels=_move_labels(batch.labels, move),
        frames=_move_boxes(frames[:, None], move, size)[0][:, 0],
        visible=visible,
    )
    for one in drawn:
        batch = one.augmentation.mix(batch, one.seeds)
    pixels = batch.pixels
    for one in drawn:
        pixels = one.augmentation.change(pixels, one.seeds)
    is_there = batch.visible > 0
    return batch._replace(
        pixels=pixels,
        classes=tf.where(is_there, batch.classes, -1),
        crowd=(batch.crowd | (batch.visible < _MIN_VISIBLE)) & is_there,
        frames=None,
        visible=None,
    )


def augment_images(
    pixels: tf.Tensor, seeds: tf.Tensor, spec: AugmentSpec, fill: tuple[float, ...]
) -> tf.Tensor:
    """`augment` for images alone: float32 (B, H, W, 3) to the same."""
    return augment(without_boxes(pixels), seeds, spec, fill).pixels


def without_boxes(pixels: tf.Tensor, targets: tf.Tensor | None = None) -> Batch:
    """A batch of images, float32 (B, H, W, 3), with a classifier's targets or none."""
    count = tf.shape(pixels)[0]
    return Batch(
        pixels,
        tf.zeros((count, 0, 4)),
        tf.zeros((count, 0), tf.int32),
        tf.zeros((count, 0), tf.bool),
        tf.zeros((count, 0, 0), tf.uint8),
        targets,
    )


class _Drawn(NamedTuple):
    """An augmentation with its random numbers for a batch, (B, draws), and the seeds that produced them."""

    augmentation: Augmentation
    numbers: tf.Tensor
    seeds: tf.Tensor


def _draw(seeds: tf.Tensor, spec: AugmentSpec) -> list[_Drawn]:
    shared = uniform(seeds, _SHARED_DRAWS)
    drawn = []
    for name, one in spec.by_name:
        if one.is_off:
            continue
        own = seeds if one.shared else _own_seeds(seeds, name)
        drawn.append(_Drawn(one, shared[:, one.shared] if one.shared else uniform(own, one.draws), own))
    return drawn


def _own_seeds(seeds: tf.Tensor, name: str) -> tf.Tensor:
    """Seeds for one augmentation, int32 (B, 2)."""
    stream = zlib.crc32(name.encode()) & 0x7FFFFFFF
    return tf.map_fn(lambda seed: tf.random.experimental.stateless_fold_in(seed, stream), seeds)


def _move(drawn: Iterable[_Drawn], size: tuple[int, int]) -> Move:
    """All moves combined into one."""
    whole = Move(tf.constant([[1.0, 1.0]]), tf.constant([[0.0, 0.0]]))
    for one in drawn:
        move = one.augmentation.move(one.numbers, size)
        whole = whole.then(move) if move else whole
    return whole


def _move_boxes(boxes: tf.Tensor, move: Move, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The moved and clipped boxes, and the share of each that is visible: 0 below one pixel."""
    scale, offset = (tf.tile(part, [1, 2])[:, None] for part in move)
    corners = boxes * scale + offset
    low = tf.minimum(corners[..., :2], corners[..., 2:])
    high = tf.maximum(corners[..., :2], corners[..., 2:])
    return cut(tf.concat([low, high], axis=-1), tf.zeros(2), tf.constant(size, tf.float32))


def _is_speck(boxes: tf.Tensor, move: Move) -> tf.Tensor:
    """Whether each moved box was shrunk to a speck, bool (B, M)."""
    is_shrunk = tf.reduce_min(tf.abs(move.scale), axis=-1, keepdims=True) < _MIN_SHRUNK
    return is_shrunk & (tf.reduce_min(boxes[..., 2:] - boxes[..., :2], axis=-1) < _MIN_SIDE)


def _move_pixels(pixels: tf.Tensor, move: Move, fill: tuple[float, ...]) -> tf.Tensor:
    # The operation takes the map from output to input, by pixel centres, as a row of eight numbers.
    scale = 1.0 / move.scale
    offset = -move.offset / move.scale + 0.5 * scale - 0.5
    zero = tf.zeros_like(scale[:, 0])
    rows = [scale[:, 1], zero, offset[:, 1], zero, scale[:, 0], offset[:, 0], zero, zero]
    moved = keras.ops.image.affine_transform(
        pixels - list(fill), tf.stack(rows, axis=-1), interpolation="bilinear", fill_mode="constant"
    )
    return moved + list(fill)


def _move_labels(labels: tf.Tensor, move: Move) -> tf.Tensor:
    """Label maps moved by nearest neighbour; unknown where no input pixel lies."""
    rows, inside_rows = _sources(labels.shape[1], move, axis=0)
    columns, inside_columns = _sources(labels.shape[2], move, axis=1)
    moved = tf.gather(labels, rows, axis=1, batch_dims=1)
    moved = tf.gather(moved, columns, axis=2, batch_dims=1)
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    return tf.where(inside, moved, tf.constant(IGNORED, tf.uint8))


def _sources(length: int, move: Move, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The input row (or column) of each output one, and whether it exists: both (B, length)."""
    centers = tf.range(length, dtype=tf.float32)[None] + 0.5
    scale, offset = move.scale[:, axis, None], move.offset[:, axis, None]
    indices = tf.cast(tf.floor((centers - offset) / scale), tf.int32)
    return tf.clip_by_value(indices, 0, max(length - 1, 0)), (indices >= 0) & (indices < length)


def _recolored(pixels: tf.Tensor, drawn: Iterable[_Drawn]) -> tf.Tensor:
    """The pixels after all recolourings, combined into one."""
    whole = Recolor()
    for one in drawn:
        recolor = one.augmentation.recolor(one.numbers)
        whole = whole.then(recolor) if recolor else whole
    mean = tf.reduce_mean(pixels, axis=(1, 2), keepdims=True)
    return tf.clip_by_value((pixels - mean) * whole.factor + mean + whole.shift, 0.0, 255.0)
