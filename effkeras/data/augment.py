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
from effkeras.data.masks import IGNORED

# A box that is mostly cut off has a misleading extent: below this visible share the loss ignores it.
_MIN_VISIBLE = 0.3
# Random numbers per image in the stream that the first augmentations share, a slice for each.
_SHARED_DRAWS = 11


class Batch(NamedTuple):
    """Images and their ground truth.

    `pixels` is float32 (B, H, W, 3), `boxes` float32 (B, M, 4) in pixels, `classes` int32 (B, M) with -1
    for padding, `crowd` bool (B, M), `labels` uint8 (B, H, W) with 255 for unknown, or (B, 0, 0).
    """

    pixels: tf.Tensor
    boxes: tf.Tensor
    classes: tf.Tensor
    crowd: tf.Tensor
    labels: tf.Tensor


def augment(batch: Batch, seeds: tf.Tensor, spec: AugmentSpec, fill: tuple[float, ...]) -> Batch:
    """Moves and recolours each image by its own seed; boxes that are mostly cut off become crowds.

    Args:
        batch: float pixels 0..255 and boxes.
        seeds: int32 (B, 2).
        spec: the augmentations.
        fill: RGB colour of pixels outside the image.
    """
    size = tuple(batch.pixels.shape[1:3])
    drawn = _draw(seeds, spec)
    move = _move(drawn, size)
    boxes, share = _move_boxes(batch.boxes, move, size)
    pixels = _change_pixels(batch.pixels, move, drawn, fill)
    classes = tf.where(share > 0, batch.classes, -1)
    crowd = (batch.crowd | (share < _MIN_VISIBLE)) & (share > 0)
    return Batch(pixels, boxes, classes, crowd, _move_labels(batch.labels, move))


def augment_images(
    pixels: tf.Tensor, seeds: tf.Tensor, spec: AugmentSpec, fill: tuple[float, ...]
) -> tf.Tensor:
    """`augment` for images without boxes: float32 (B, H, W, 3) to the same."""
    drawn = _draw(seeds, spec)
    return _change_pixels(pixels, _move(drawn, tuple(pixels.shape[1:3])), drawn, fill)


class _Drawn(NamedTuple):
    """An augmentation with its random numbers for a batch, (B, draws), and the seeds that produced them."""

    augmentation: Augmentation
    numbers: tf.Tensor
    seeds: tf.Tensor


def _draw(seeds: tf.Tensor, spec: AugmentSpec) -> list[_Drawn]:
    shared = _uniform(seeds, _SHARED_DRAWS)
    drawn = []
    for name, one in spec.by_name:
        own = seeds if one.shared else _own_seeds(seeds, name)
        drawn.append(_Drawn(one, shared[:, one.shared] if one.shared else _uniform(own, one.draws), own))
    return drawn


def _uniform(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """Uniform random numbers in 0..1, (B, count); each row has its own seed."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform((count,), seed), seeds, fn_output_signature=tf.float32
    )


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


def _change_pixels(
    pixels: tf.Tensor, move: Move, drawn: Iterable[_Drawn], fill: tuple[float, ...]
) -> tf.Tensor:
    """The pixels after all moves, all recolourings, and then all other changes."""
    pixels = _recolored(_move_pixels(pixels, move, fill), drawn)
    for one in drawn:
        pixels = one.augmentation.change(pixels, one.seeds)
    return pixels


def _move_boxes(boxes: tf.Tensor, move: Move, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The moved and clipped boxes, and the share of each that is visible: 0 below one pixel."""
    scale, offset = (tf.tile(part, [1, 2])[:, None] for part in move)
    corners = boxes * scale + offset
    low = tf.minimum(corners[..., :2], corners[..., 2:])
    high = tf.maximum(corners[..., :2], corners[..., 2:])
    moved = tf.concat([low, high], axis=-1)
    edges = tf.constant([*size, *size], tf.float32)
    clipped = tf.clip_by_value(moved, 0.0, edges)
    visible = _area(clipped)
    return clipped, tf.where(visible >= 1.0, tf.math.divide_no_nan(visible, _area(moved)), 0.0)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


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
