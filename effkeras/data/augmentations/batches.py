"""The batch that augmentations change, and what several need: random numbers, cut boxes, Keras's layers."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Batch(NamedTuple):
    """Images and their ground truth.

    `pixels` is float32 (B, H, W, 3), `boxes` float32 (B, M, 4) in pixels, `classes` int32 (B, M) with -1
    for padding, `crowd` bool (B, M), `labels` uint8 (B, H, W) with 255 for unknown, or (B, 0, 0).
    `targets` is float32 (B, C), the share of each class in an image: only a classifier's batch has it.
    `frames` is float32 (B, 4): the box in which an image lies, the rest being padding; None for all of it.
    `visible` is float32 (B, M), the share of each box that is still visible: only while a batch is augmented.
    """

    pixels: tf.Tensor
    boxes: tf.Tensor
    classes: tf.Tensor
    crowd: tf.Tensor
    labels: tf.Tensor
    targets: tf.Tensor | None = None
    frames: Any = None
    visible: Any = None


def uniform(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """Uniform random numbers in 0..1, (B, count); each row has its own seed of `seeds`, int32 (B, 2)."""
    import tensorflow as tf

    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform((count,), seed), seeds, fn_output_signature=tf.float32
    )


def cut(boxes: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes (..., 4) cut at the corners of a frame, and the share of each that is left: 0 below one pixel.

    `low` and `high` are y, x of the frame, (..., 2), as tensors that fit the boxes' shape.
    """
    import tensorflow as tf

    clipped = tf.clip_by_value(boxes, tf.concat([low, low], axis=-1), tf.concat([high, high], axis=-1))
    visible = areas(clipped)
    return clipped, tf.where(visible >= 1.0, tf.math.divide_no_nan(visible, areas(boxes)), 0.0)


def areas(boxes: tf.Tensor) -> tf.Tensor:
    """Areas of boxes (..., 4) in square pixels."""
    import tensorflow as tf

    return tf.reduce_prod(tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


def random_rectangles(shares: tf.Tensor, places: tf.Tensor, sides: tuple[int, int]) -> tf.Tensor:
    """Rectangles in images of `sides` (height, width), as boxes of whole pixels, float32 (B, 4).

    `shares` are the rectangles' sides as shares of the image's, `places` their places from 0 (top, left) to
    1 (bottom, right), each (B, 2).
    """
    import tensorflow as tf

    image = tf.constant([sides], tf.float32)
    low = tf.round(places * (1 - shares) * image)
    return tf.concat([low, low + tf.round(shares * image)], axis=1)


def inside(rectangles: tf.Tensor, sides: tuple[int, int]) -> tf.Tensor:
    """Whether each pixel of an image lies in its rectangle, (B, 4) to bool (B, H, W)."""
    import tensorflow as tf

    top, left, bottom, right = (part[..., None] for part in tf.split(rectangles, 4, axis=1))
    rows, columns = (tf.range(side, dtype=tf.float32) for side in sides)
    rows = rows[None, :, None]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def share_covered(boxes: tf.Tensor, rectangles: tf.Tensor) -> tf.Tensor:
    """The share of each box (B, M, 4) that lies in the rectangle of its image, (B, 4)."""
    import tensorflow as tf

    low = tf.maximum(boxes[..., :2], rectangles[:, None, :2])
    high = tf.minimum(boxes[..., 2:], rectangles[:, None, 2:])
    return tf.math.divide_no_nan(areas(tf.concat([low, high], axis=-1)), areas(boxes))


@functools.cache
def keras_layer(name: str) -> keras.Layer:
    """The layer of that name in `keras.layers`, with its default arguments.

    Only its `transform_images` and `transform_labels` are used, with transformations drawn from our seeds. A
    layer holds a variable for seeds of its own, which cannot be made while TensorFlow traces a pipeline;
    another thread traces nothing.
    """

    def make() -> Any:
        import keras

        return getattr(keras.layers, name)()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()
