"""Random changes to a batch of images and their boxes, by Keras core's image operations.

Every change is a pure function of a seed per image, so that a resumed training sees exactly the
images that an uninterrupted one sees.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from effkeras.data.augment_spec import AugmentSpec
from effkeras.data.masks import IGNORED

# A box that is mostly cut off teaches the wrong extent: below this visible share it is dropped.
_MIN_VISIBLE = 0.3


class Batch(NamedTuple):
    """Images and their truths.

    `pixels` is float32 (B, H, W, 3), `boxes` float32 (B, M, 4) in pixels, `classes` int32 (B, M) with -1
    for padding, `crowd` bool (B, M), `labels` uint8 (B, H, W) with 255 for unknown, or (B, 0, 0).
    """

    pixels: tf.Tensor
    boxes: tf.Tensor
    classes: tf.Tensor
    crowd: tf.Tensor
    labels: tf.Tensor


class _Move(NamedTuple):
    """Output pixel = input pixel * scale + offset, per image and axis: each (B, 2) as y, x."""

    scale: tf.Tensor
    offset: tf.Tensor


def augment(batch: Batch, seeds: tf.Tensor, spec: AugmentSpec, fill: tuple[float, ...]) -> Batch:
    """Moves and recolours each image by its own seed.

    Args:
        batch: float pixels 0..255 and boxes.
        seeds: int32 (B, 2).
        spec: which changes.
        fill: RGB colour of what comes in from outside the image.
    """
    size = tuple(batch.pixels.shape[1:3])
    draws = _uniform(seeds, 11)
    move = _draw_move(draws, spec, size)
    boxes, visible = _move_boxes(batch.boxes, move, size)
    pixels = _recolor(_move_pixels(batch.pixels, move, fill), draws, spec)
    classes = tf.where(visible, batch.classes, -1)
    return Batch(pixels, boxes, classes, batch.crowd & visible, _move_labels(batch.labels, move))


def augment_images(
    pixels: tf.Tensor, seeds: tf.Tensor, spec: AugmentSpec, fill: tuple[float, ...]
) -> tf.Tensor:
    """`augment` for images without boxes: float32 (B, H, W, 3) to the same."""
    draws = _uniform(seeds, 11)
    move = _draw_move(draws, spec, tuple(pixels.shape[1:3]))
    return _recolor(_move_pixels(pixels, move, fill), draws, spec)


def _uniform(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """(B, count) numbers in 0..1, each row from its own seed."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform((count,), seed), seeds, fn_output_signature=tf.float32
    )


def _draw_move(draws: tf.Tensor, spec: AugmentSpec, size: tuple[int, int]) -> _Move:
    low, high = (tf.math.log(tf.constant(end, tf.float32)) for end in spec.scale)
    zoom = tf.exp(low + draws[:, 0:1] * (high - low))
    # Where it is enlarged a window is taken, where it is shrunk the image lies somewhere in the frame.
    room = tf.constant([size], tf.float32) * (1 - zoom)
    offset = room * draws[:, 1:3]
    mirrored = spec.flip & (draws[:, 3:4] < 0.5)
    sign = tf.where(mirrored, [[1.0, -1.0]], [[1.0, 1.0]])
    width = tf.constant([[0.0, float(size[1])]])
    return _Move(zoom * sign, tf.where(mirrored, width, 0.0) + sign * offset)


def _move_boxes(boxes: tf.Tensor, move: _Move, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes moved and clipped, and which are still visible."""
    scale, offset = (tf.tile(part, [1, 2])[:, None] for part in move)
    corners = boxes * scale + offset
    low = tf.minimum(corners[..., :2], corners[..., 2:])
    high = tf.maximum(corners[..., :2], corners[..., 2:])
    moved = tf.concat([low, high], axis=-1)
    edges = tf.constant([*size, *size], tf.float32)
    clipped = tf.clip_by_value(moved, 0.0, edges)
    visible = _area(clipped) >= tf.maximum(_MIN_VISIBLE * _area(moved), 1.0)
    return clipped, visible


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


def _move_pixels(pixels: tf.Tensor, move: _Move, fill: tuple[float, ...]) -> tf.Tensor:
    # The operation wants the map from output to input, by pixel centres, as a row of eight numbers.
    scale = 1.0 / move.scale
    offset = -move.offset / move.scale + 0.5 * scale - 0.5
    zero = tf.zeros_like(scale[:, 0])
    rows = [scale[:, 1], zero, offset[:, 1], zero, scale[:, 0], offset[:, 0], zero, zero]
    moved = keras.ops.image.affine_transform(
        pixels - list(fill), tf.stack(rows, axis=-1), interpolation="bilinear", fill_mode="constant"
    )
    return moved + list(fill)


def _move_labels(labels: tf.Tensor, move: _Move) -> tf.Tensor:
    """Label maps moved by nearest neighbour, unknown where something from outside comes in."""
    rows, inside_rows = _sources(labels.shape[1], move, axis=0)
    columns, inside_columns = _sources(labels.shape[2], move, axis=1)
    moved = tf.gather(labels, rows, axis=1, batch_dims=1)
    moved = tf.gather(moved, columns, axis=2, batch_dims=1)
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    return tf.where(inside, moved, tf.constant(IGNORED, tf.uint8))


def _sources(length: int, move: _Move, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Which input row (or column) each output one shows, and whether there is one: both (B, length)."""
    centers = tf.range(length, dtype=tf.float32)[None] + 0.5
    scale, offset = move.scale[:, axis, None], move.offset[:, axis, None]
    indices = tf.cast(tf.floor((centers - offset) / scale), tf.int32)
    return tf.clip_by_value(indices, 0, max(length - 1, 0)), (indices >= 0) & (indices < length)


def _recolor(pixels: tf.Tensor, draws: tf.Tensor, spec: AugmentSpec) -> tf.Tensor:
    signed = (2 * draws - 1)[:, None, None, :]
    mean = tf.reduce_mean(pixels, axis=(1, 2), keepdims=True)
    factor = (1 + spec.contrast * signed[..., 4:5]) * (1 + spec.color * signed[..., 5:8])
    shift = 255 * (spec.brightness * signed[..., 8:9])
    return tf.clip_by_value((pixels - mean) * factor + mean + shift, 0.0, 255.0)
