"""Preprocessing (`effkeras.data.preprocess`) in TensorFlow operations: images to a network's input.

The arithmetic has the same steps and precision as there, so that both give the same pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from effkeras.definitions.definition import InputSpec


class Placement(NamedTuple):
    """The position of an image in the network's input, as in `effkeras.data.preprocess.Placement`.

    `scale` and `offset` are float64 (2,). `size` is int64 (2,), the image's height and width.
    """

    scale: Any
    offset: Any
    size: Any


def place(images: Any, spec: InputSpec) -> tuple[Any, Placement]:
    """Resizes images of equal size to the network's input.

    Args:
        images: uint8 (B, h, w, 3) RGB.
        spec: the input size and the resize mode.

    Returns:
        float32 (B, H, W, 3), pixels 0..255 with the mean colour as padding; and their common placement.
    """
    way = _letterbox if spec.resize == "letterbox" else _center_crop
    content, placement = way(images, spec)
    return _fill(content, spec), placement


def untouched(pixels: Any, spec: InputSpec) -> tuple[Any, Placement]:
    """Images that already have the input's size, (B, H, W, 3), as float32, with the identity placement."""
    ones = tf.ones(2, tf.float64)
    return tf.cast(pixels, tf.float32), Placement(ones, 0 * ones, tf.constant(spec.size, tf.int64))


def to_image(boxes: Any, placement: Placement) -> Any:
    """Boxes (n, 4) from input pixels to image pixels, clipped to the image, float32."""
    offset, scale = tf.tile(placement.offset, [2]), tf.tile(placement.scale, [2])
    moved = (tf.cast(boxes, tf.float64) - offset) / scale
    edges = tf.tile(tf.cast(placement.size, tf.float64), [2])
    return tf.cast(tf.clip_by_value(moved, 0.0, edges), tf.float32)


def _letterbox(images: Any, spec: InputSpec) -> tuple[Any, Placement]:
    size, target = tf.stack(_sides(images)), tf.constant(spec.size, tf.int64)
    crossed = target * size[::-1]  # the dimension with the smaller ratio is filled
    fitting = tf.maximum(target[::-1] * size // size[::-1], 1)
    inner = tf.where(tf.stack([crossed[0] <= crossed[1], crossed[0] > crossed[1]]), target, fitting)
    return _resized(images, inner), Placement(_double(inner) / _double(size), tf.zeros(2, tf.float64), size)


def _center_crop(images: Any, spec: InputSpec) -> tuple[Any, Placement]:
    size, target = tf.stack(_sides(images)), tf.constant(spec.size, tf.int64)
    ratio = tf.reduce_min(_double(size) / _double(target)) * spec.crop
    cut = tf.maximum(tf.cast(tf.round(_double(target) * ratio), tf.int64), 1)
    corner = (size - cut) // 2
    ends = corner + cut
    content = _resized(images[:, corner[0] : ends[0], corner[1] : ends[1]], target)
    scale = _double(target) / _double(cut)
    return content, Placement(scale, -_double(corner) * scale, size)


def _resized(images: Any, size: Any) -> Any:
    """Resizes uint8 (B, h, w, 3) to float32 (B, *size, 3), rounded to integers."""
    height, width = _sides(images)
    tops, bottoms, down = neighbours(height, size[0])
    lefts, rights, across = neighbours(width, size[1])
    down, across = down[:, None, None], across[:, None]
    rows = _lines(images, tops, 1) * (1 - down) + _lines(images, bottoms, 1) * down
    pixels = _lines(rows, lefts, 2) * (1 - across) + _lines(rows, rights, 2) * across
    return tf.round(pixels)


def neighbours(source: Any, target: Any) -> tuple[Any, Any, Any]:
    """For each output pixel, the two nearest input pixels and its distance from the first."""
    step = _double(source) / _double(target)
    position = (_double(tf.range(target)) + 0.5) * step - 0.5
    return around(position, source - 1)


def around(position: Any, last: Any) -> tuple[Any, Any, Any]:
    """The two integers in 0..last (int64) around each float64 position (n,), and its distance from the first
    (float32).
    """
    position = tf.clip_by_value(position, 0.0, _double(last))
    first = tf.cast(tf.floor(position), tf.int64)
    distance = tf.cast(position - _double(first), tf.float32)
    return first, tf.minimum(first + 1, last), distance


def _fill(content: Any, spec: InputSpec) -> Any:
    """Pads the content, (B, h, w, 3), to the input size, (B, H, W, 3); it stays at the top left."""
    height, width = _sides(content)
    missing = [[0, 0], [0, spec.size[0] - height], [0, spec.size[1] - width], [0, 0]]
    rows, columns = (tf.range(side, dtype=tf.int64) for side in spec.size)
    inside = (rows[:, None] < height) & (columns < width)
    mean = tf.constant(spec.mean, tf.float32)
    pixels = tf.where(inside[..., None], tf.pad(content, missing), mean)
    return tf.ensure_shape(pixels, (None, *spec.size, 3))


def _lines(images: Any, indices: Any, axis: int) -> Any:
    return tf.cast(tf.gather(images, indices, axis=axis), tf.float32)


def _sides(images: Any) -> tuple[Any, Any]:
    shape = tf.shape(images, out_type=tf.int64)
    return shape[1], shape[2]


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)
