"""Applies augmentations to a batch of images and their boxes.

The padding of images, all moves and all changes of contrast and brightness are one pass over the pixels, by
TensorFlow's crop_and_resize: it takes a fifth of the CPU time of Keras's `affine_transform`, of which the
result is the same, and reads 8-bit pixels.

Each change depends only on a seed per image, so a resumed training gets exactly the same images as an
uninterrupted one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

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


def augment(
    batch: Batch,
    seeds: tf.Tensor,
    spec: AugmentSpec,
    fill: tuple[float, ...],
    content: tf.Tensor | None = None,
) -> Batch:
    """Changes each image by its own seed; boxes that are mostly hidden or shrunk to specks become crowds.

    Mixtures such as `mosaic` take their other images from the batch.

    Args:
        batch: pixels 0..255, float32 or uint8, and boxes, or a classifier's `targets`.
        seeds: int32 (B, 2).
        spec: the augmentations.
        fill: RGB colour of pixels outside the image.
        content: height and width of the images, int32 (B, 2); the pixels must be 0 below and right of them.
            They set `frames`. None if the images fill the input.
    """
    size = tuple(batch.pixels.shape[1:3])
    drawn = _draw(seeds, spec)
    move = _move(drawn, size)
    boxes, visible = _move_boxes(batch.boxes, move, size)
    if content is not None:
        batch = batch._replace(frames=frames_of(content))
    frames = batch.frames if batch.frames is not None else tf.constant([[0, 0, *size]], tf.float32)
    batch = batch._replace(
        pixels=_changed(_resampled(batch.pixels, content, move), _recolor(drawn), fill),
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


def filled(pixels: tf.Tensor, content: tf.Tensor, fill: tuple[float, ...]) -> tf.Tensor:
    """Pixels (B, H, W, 3) as float32, with the colour `fill` below and right of `content`, int32 (B, 2).

    They must be 0 there.
    """
    rows, columns = (
        tf.cast(tf.range(pixels.shape[1 + axis]) < content[:, axis, None], tf.float32) for axis in (0, 1)
    )
    colour = tf.broadcast_to(tf.constant(fill, tf.float32), (tf.shape(pixels)[0], 3))
    return tf.cast(pixels, tf.float32) + _plane(colour, -colour, rows, columns, pixels.shape)


def frames_of(content: tf.Tensor) -> tf.Tensor:
    """The boxes that images of height and width `content`, int32 (B, 2), fill: float32 (B, 4)."""
    sides = tf.cast(content, tf.float32)
    return tf.concat([tf.zeros_like(sides), sides], axis=1)


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


class _Resampled(NamedTuple):
    """Moved pixels, float32 (B, H, W, 3), with 0 for all outside the image; its share of them.

    The share is the product of `rows` (B, H) and `columns` (B, W).
    """

    pixels: tf.Tensor
    rows: tf.Tensor
    columns: tf.Tensor


def _resampled(pixels: tf.Tensor, content: tf.Tensor | None, move: Move) -> _Resampled:
    """Bilinear resampling; half a pixel inside its edge, an image begins to fade into what surrounds it."""
    size = tf.constant([tuple(pixels.shape[1:3])], tf.float32)
    # Input places of the first and the last output pixel, by pixel centres: (B, 2) as y, x.
    first, last = (
        tf.broadcast_to((place - move.offset) / move.scale - 0.5, (tf.shape(pixels)[0], 2))
        for place in (0.5, size - 0.5)
    )
    around = tf.pad(pixels, [[0, 0], [1, 1], [1, 1], [0, 0]])  # what lies at the edge fades into 0
    corners = tf.concat([first + 1, last + 1], axis=1) / tf.tile(size + 1, [1, 2])
    images = tf.range(tf.shape(pixels)[0])
    moved = tf.image.crop_and_resize(around, corners, images, tuple(pixels.shape[1:3]))
    ends = size if content is None else tf.cast(content, tf.float32)
    shares = []
    for axis, length in enumerate(pixels.shape[1:3]):
        steps = tf.linspace(0.0, 1.0, length)
        places = first[:, axis, None] * (1 - steps) + last[:, axis, None] * steps
        inside = tf.minimum(places + 1, ends[:, axis, None] - places)
        shares.append(tf.clip_by_value(inside, 0.0, 1.0))
    return _Resampled(moved, *shares)


def _plane(
    base: tf.Tensor, share: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, shape: tf.TensorShape
) -> tf.Tensor:
    """`base` + `share` * rows * columns, as float32 (B, H, W, 3) of that shape.

    The two colours are (B, 3), rows (B, H) and columns (B, W). A product of matrices is one pass over the
    result; to broadcast colours to pixels takes several times as long.
    """
    width = shape[2]
    left = tf.stack([tf.ones_like(rows), rows], axis=2)
    right = [tf.tile(base, [1, width]), tf.tile(share, [1, width]) * tf.repeat(columns, 3, axis=1)]
    return tf.reshape(tf.matmul(left, tf.stack(right, axis=1)), (-1, *shape[1:]))


def _move_labels(labels: tf.Tensor, move: Move) -> tf.Tensor:
    """Label maps moved by nearest neighbour; unknown where no input pixel lies."""
    if not labels.shape[1]:
        return labels
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


def _recolor(drawn: Iterable[_Drawn]) -> Recolor:
    """All recolourings combined into one."""
    whole = Recolor()
    for one in drawn:
        recolor = one.augmentation.recolor(one.numbers)
        whole = whole.then(recolor) if recolor else whole
    return whole


def _changed(moved: _Resampled, recolor: Recolor, fill: tuple[float, ...]) -> tf.Tensor:
    """The moved pixels on ground of the colour `fill`, after the recolouring, float32 (B, H, W, 3)."""
    shape = moved.pixels.shape
    ground = tf.constant([fill], tf.float32)
    factor, shift = (tf.broadcast_to(_flat(part), tf.shape(moved.pixels)[0:4:3]) for part in recolor)
    shares = tf.reduce_mean(moved.rows, axis=1, keepdims=True) * tf.reduce_mean(
        moved.columns, axis=1, keepdims=True
    )
    mean = tf.reduce_mean(moved.pixels, axis=(1, 2)) + ground * (1 - shares)
    base = ground * factor + mean * (1 - factor) + shift
    plane = _plane(base, -ground * factor, moved.rows, moved.columns, shape)
    rows = tf.reshape(moved.pixels, (-1, shape[1], shape[2] * 3)) * tf.tile(factor, [1, shape[2]])[:, None]
    whole = tf.reshape(rows, (-1, *shape[1:])) + plane
    # One pass; `tf.clip_by_value` makes two.
    return tf.raw_ops.ClipByValue(t=whole, clip_value_min=tf.constant(0.0), clip_value_max=tf.constant(255.0))


def _flat(part: tf.Tensor | float) -> tf.Tensor:
    """A part of a recolouring as (B, 1) or (B, 3), or (1, 1) for a number."""
    part = tf.convert_to_tensor(part, tf.float32)
    return part[:, 0, 0] if part.shape.rank else part[None, None]
