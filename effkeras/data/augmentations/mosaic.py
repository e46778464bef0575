"""Mosaic: an image made of parts of four images (Bochkovskiy et al. 2020, YOLOv4, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation
from effkeras.data.augmentations.batches import Batch, cut, uniform

if TYPE_CHECKING:
    import tensorflow as tf

_CENTER = (0.25, 0.75)  # where the four parts meet, as a share of the sides; keras-cv's limits


class Parts(NamedTuple):
    """The four parts of each image: top left, top right, bottom left, bottom right.

    `images` is int32 (B, 4), each part's image in the batch; `center` int32 (B, 2), y and x of the corner
    where they meet; `windows` int32 (B, 4, 2), y and x of each part's top left corner in its image.
    """

    images: tf.Tensor
    center: tf.Tensor
    windows: tf.Tensor


@AUGMENTATIONS.register("mosaic")
@dataclass(frozen=True)
class Mosaic(Augmentation):
    """Replaces a random share (the amount) of a detector's images by parts of four images of the batch.

    The parts keep the scale of their images, and so do the objects; boxes are cut at the borders. An image is
    one of its own parts. A classifier's images stay whole: `cutmix` is for them.

    keras-cv's Mosaic shows those corners of the four images that touch the centre, which for letterboxed
    images is padding; here each part is a random window with as little padding as can be. For the same
    windows both give the same images, and this one takes a fifth of the CPU time.
    """

    rank = 200
    share = True

    amount: float = 0.0

    def mix(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """See `Augmentation.mix`."""
        if batch.targets is not None:
            return batch
        sides = tuple(batch.pixels.shape[1:3])
        return joined(batch, _parts(uniform(seeds, 14), sides, batch.frames, self.amount))


def joined(batch: Batch, parts: Parts) -> Batch:
    """The images and boxes of a batch with `visible`, each made of four parts; boxes become (B, 4 M, 4)."""
    import tensorflow as tf

    first, size = _places(parts.center, tuple(batch.pixels.shape[1:3]))
    shift = tf.cast(first - parts.windows, tf.float32)
    low, high = (tf.cast(corner, tf.float32)[:, :, None] for corner in (first, first + size))
    moved = tf.gather(batch.boxes, parts.images) + tf.concat([shift, shift], axis=-1)[:, :, None]
    boxes, share = cut(moved, low, high)
    rows = tf.shape(batch.boxes)[0]
    classes, crowd, visible = (
        tf.reshape(tf.gather(values, parts.images), (rows, -1))
        for values in (batch.classes, batch.crowd, batch.visible)
    )
    return batch._replace(
        pixels=_joined(batch.pixels, parts, size),
        boxes=tf.reshape(boxes, (rows, -1, 4)),
        classes=classes,
        crowd=crowd,
        labels=_joined(batch.labels, parts, size) if batch.labels.shape[1] else batch.labels,
        visible=visible * tf.reshape(share, (rows, -1)),
    )


def _parts(draws: tf.Tensor, sides: tuple[int, int], frames: tf.Tensor, share: float) -> Parts:
    """Parts by 14 random numbers per image, (B, 14); an image that stays whole is its own first part."""
    import tensorflow as tf

    count, whole = tf.shape(draws)[0], tf.constant([sides], tf.int32)
    is_mosaic = draws[:, :1] < share
    low, high = _CENTER
    center = tf.cast(tf.constant([sides], tf.float32) * (low + (high - low) * draws[:, 1:3]), tf.int32)
    center = tf.where(is_mosaic, center, whole)
    others = tf.cast(draws[:, 3:6] * tf.cast(count, tf.float32), tf.int32)
    images = tf.concat([tf.range(count)[:, None], tf.minimum(others, count - 1)], axis=1)
    size = tf.cast(_places(center, sides)[1], tf.float32)
    frame = tf.gather(tf.broadcast_to(frames, (count, 4)), images)
    # From one of these to the other, a window lies in its image, or has all of it.
    ends = frame[..., :2], frame[..., 2:] - size
    at = ends[0] + (ends[1] - ends[0]) * tf.reshape(draws[:, 6:14], (-1, 4, 2))
    at = tf.clip_by_value(tf.round(at), 0.0, tf.constant(sides, tf.float32) - size)
    return Parts(images, center, tf.cast(at, tf.int32))


def _places(center: tf.Tensor, sides: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The top left corner and the size of each part in the output, int32 (B, 4, 2)."""
    import tensorflow as tf

    y, x = center[:, 0], center[:, 1]
    none = tf.zeros_like(y)
    first = tf.stack([none, none, none, x, y, none, y, x], axis=1)
    size = tf.stack([y, x, y, sides[1] - x, sides[0] - y, x, sides[0] - y, sides[1] - x], axis=1)
    return tf.reshape(first, (-1, 4, 2)), tf.reshape(size, (-1, 4, 2))


def _joined(pixels: tf.Tensor, parts: Parts, size: tf.Tensor) -> tf.Tensor:
    """Pixels or label maps (B, H, W, ...) made of the parts."""
    import tensorflow as tf

    def one(of: tuple[tf.Tensor, ...]) -> tf.Tensor:
        images, first, last = of
        shown = [pixels[images[n], first[n, 0] : last[n, 0], first[n, 1] : last[n, 1]] for n in range(4)]
        rows = [tf.concat(shown[:2], axis=1), tf.concat(shown[2:], axis=1)]
        return tf.ensure_shape(tf.concat(rows, axis=0), pixels.shape[1:])

    return tf.map_fn(
        one, (parts.images, parts.windows, parts.windows + size), fn_output_signature=pixels.dtype
    )
