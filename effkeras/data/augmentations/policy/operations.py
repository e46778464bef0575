"""The operations of AutoAugment and RandAugment on one image with its boxes and label map.

Colours change as Pillow's ImageOps and ImageEnhance change them, on which the policies were searched; Keras's
layers of the same names differ (brightness is added, not scaled; equalisation has other steps).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from effkeras.data.augmentations.batches import cut, share_covered
from effkeras.data.masks import IGNORED

_GREY = 128.0  # what replaces pixels that an operation hides
_MAX_LEVEL = 10.0
_BOX_CUTOUT = 0.75  # the largest part of a box's sides that BBox_Cutout hides
_FEWER_BOXES = 3.0  # an operation inside boxes reaches each by its probability divided by this
_INSIDE, _WITH, _IN_ONE = "_Only_BBoxes", "_BBox", "BBox_Cutout"

ImageChange = Callable[[tf.Tensor, "Draw"], tf.Tensor]


class One(NamedTuple):
    """One image: `pixels` (H, W, 3), `boxes` (M, 4), `visible` (M,), `labels` (H, W) or (0, 0)."""

    pixels: tf.Tensor
    boxes: tf.Tensor
    visible: tf.Tensor
    labels: tf.Tensor


class Draw(NamedTuple):
    """How an operation is done: level in 0..10, probability, sign, place (2,) in 0..1, and a seed (2,)."""

    level: tf.Tensor
    probability: tf.Tensor
    sign: tf.Tensor
    place: tf.Tensor
    seed: tf.Tensor


@dataclass(frozen=True, slots=True)
class Limits:
    """What level 10 moves and hides, as shares of the image's sides."""

    translate: float
    cutout: float
    box_translate: float = 0.0
    box_cutout: float = 0.0


def operation(name: str, limits: Limits, sides: tuple[int, int]) -> Callable[[One, Draw], One]:
    """The operation of that name for images of `sides` (height, width); KeyError if there is none."""
    if name == _IN_ONE:
        return _cut_out_of_a_box
    if name.endswith(_INSIDE):
        return _inside_boxes(_inner_change(name.removesuffix(_INSIDE), limits, sides))
    if name == "Cutout":
        return lambda one, draw: _cut_out(one, draw, limits.cutout)
    if name in _COLORS:
        return lambda one, draw: one._replace(pixels=_COLORS[name](one.pixels, draw))
    move = _MOVES[name.removesuffix(_WITH)]
    return lambda one, draw: _moved(one, *move(draw, _floats(sides), limits.translate * _floats(sides)))


def draws_boxes_itself(name: str) -> bool:
    """Whether the operation applies its probability to each box."""
    return name.endswith(_INSIDE)


def _floats(sides: tuple[int, int]) -> tf.Tensor:
    return tf.constant(sides, tf.float32)


# Colours -------------------------------------------------------------------------------------------------


def _blend(from_: tf.Tensor, pixels: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """From `from_` at a factor of 0 over the image at 1 to beyond; levels 0 to 10 are factors 0.1 to 1.9."""
    factor = level / _MAX_LEVEL * 1.8 + 0.1
    return tf.clip_by_value(from_ + factor * (pixels - from_), 0.0, 255.0)


def _gray(pixels: tf.Tensor) -> tf.Tensor:
    return tf.tensordot(pixels, tf.constant([[0.299], [0.587], [0.114]]), 1)


def _auto_contrast(pixels: tf.Tensor, draw: Draw) -> tf.Tensor:
    low, high = (reduce(pixels, axis=(0, 1)) for reduce in (tf.reduce_min, tf.reduce_max))
    stretched = (pixels - low) * tf.math.divide_no_nan(255.0, high - low)
    return tf.where(high > low, stretched, pixels)


def _equalize(pixels: tf.Tensor, draw: Draw) -> tf.Tensor:
    values = tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.int32)

    def channel(which: int) -> tf.Tensor:
        own = values[..., which]
        counts = tf.math.bincount(tf.reshape(own, [-1]), minlength=256, maxlength=256)
        last = tf.gather(counts, tf.reduce_max(own))
        step = (tf.reduce_sum(counts) - last) // 255
        table = tf.math.floordiv(tf.cumsum(counts, exclusive=True) + step // 2, tf.maximum(step, 1))
        table = tf.where(step > 0, tf.clip_by_value(table, 0, 255), tf.range(256))
        return tf.gather(table, own)

    return tf.cast(tf.stack([channel(0), channel(1), channel(2)], axis=-1), tf.float32)


def _posterize(pixels: tf.Tensor, draw: Draw) -> tf.Tensor:
    """Keeps the upper bits: 4 at level 10. The authors keep none below level 2.5; here one stays."""
    kept = tf.maximum(tf.floor(draw.level / _MAX_LEVEL * 4), 1.0)
    width = tf.pow(2.0, 8.0 - kept)
    return tf.floor(pixels / width) * width


def _solarize(pixels: tf.Tensor, draw: Draw) -> tf.Tensor:
    return tf.where(pixels < tf.floor(draw.level / _MAX_LEVEL * 256), pixels, 255.0 - pixels)


def _solarize_add(pixels: tf.Tensor, draw: Draw) -> tf.Tensor:
    added = tf.minimum(pixels + tf.floor(draw.level / _MAX_LEVEL * 110), 255.0)
    return tf.where(pixels < 128, added, pixels)


def _sharpness(pixels: tf.Tensor, draw: Draw) -> tf.Tensor:
    """Pillow's: away from, or towards, the image smoothed by a 3 x 3 filter; its border stays."""
    height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    weights = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    filters = tf.tile(weights[:, :, None, None], [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(pixels[None], filters, [1, 1, 1, 1], "SAME")[0]
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    is_inner = (rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1)
    return _blend(tf.where(is_inner, smooth, pixels), pixels, draw.level)


_COLORS: dict[str, ImageChange] = {
    "AutoContrast": _auto_contrast,
    "Brightness": lambda pixels, draw: _blend(tf.zeros_like(pixels), pixels, draw.level),
    "Color": lambda pixels, draw: _blend(_gray(pixels), pixels, draw.level),
    "Contrast": lambda pixels, draw: _blend(tf.reduce_mean(_gray(pixels)), pixels, draw.level),
    "Equalize": _equalize,
    "Invert": lambda pixels, draw: 255.0 - pixels,
    "Posterize": _posterize,
    "Sharpness": _sharpness,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
}


# Moves ---------------------------------------------------------------------------------------------------
# Each gives the map from a place in the output, (y, x) in pixels from the corner, to the place in the input:
# place @ matrix + offset.


def _rotate(draw: Draw, sides: tf.Tensor, reach: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """By up to 30 degrees about the middle."""
    angle = draw.sign * draw.level / _MAX_LEVEL * (30 * math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    matrix = tf.stack([tf.stack([cos, sin]), tf.stack([-sin, cos])])
    return matrix, sides / 2 - tf.linalg.matvec(matrix, sides / 2, transpose_a=True)


def _sheared(axis: int) -> Callable[[Draw, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """By up to 0.3 along y (0) or x (1), from the corner on."""

    def move(draw: Draw, sides: tf.Tensor, reach: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        amount = draw.sign * draw.level / _MAX_LEVEL * 0.3
        place = tf.constant([[0.0, 1], [0, 0]] if axis else [[0.0, 0], [1, 0]])
        return tf.eye(2) + amount * place, tf.zeros(2)

    return move


def _translated(axis: int) -> Callable[[Draw, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """By up to `reach` along y (0) or x (1)."""

    def move(draw: Draw, sides: tf.Tensor, reach: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        amount = draw.sign * draw.level / _MAX_LEVEL * reach
        return tf.eye(2), amount * tf.one_hot(axis, 2)

    return move


def _flip(draw: Draw, sides: tf.Tensor, reach: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant([[1.0, 0], [0, -1]]), sides * tf.constant([0.0, 1])


_MOVES = {
    "Flip": _flip,
    "Rotate": _rotate,
    "ShearX": _sheared(1),
    "ShearY": _sheared(0),
    "TranslateX": _translated(1),
    "TranslateY": _translated(0),
}


def _moved(one: One, matrix: tf.Tensor, offset: tf.Tensor) -> One:
    """The image, boxes and label map moved; a box becomes the box around its moved corners."""
    sides = _floats(tuple(one.pixels.shape[:2]))
    top, left, bottom, right = tf.unstack(one.boxes, axis=1)
    corners = tf.stack([top, left, top, right, bottom, left, bottom, right], axis=1)
    places = (tf.reshape(corners, (-1, 4, 2)) - offset) @ tf.linalg.inv(matrix)
    around = tf.concat([tf.reduce_min(places, axis=1), tf.reduce_max(places, axis=1)], axis=1)
    boxes, share = cut(around, tf.zeros(2), sides)
    labels = one.labels
    if labels.shape[0]:
        shown = tf.cast(labels, tf.float32)[..., None]
        labels = tf.cast(_resampled(shown, matrix, offset, float(IGNORED), "nearest")[..., 0], tf.uint8)
    pixels = _resampled(one.pixels, matrix, offset, _GREY)
    return One(pixels, boxes, one.visible * share, labels)


def _resampled(
    pixels: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor, fill: float, how: str = "bilinear"
) -> tf.Tensor:
    shift = offset - 0.5 + tf.linalg.matvec(matrix, tf.fill([2], 0.5), transpose_a=True)  # pixel centres
    (yy, yx), (xy, xx) = (tf.unstack(row) for row in tf.unstack(matrix))
    zero = tf.zeros_like(xx)
    row = tf.stack([xx, yx, shift[1], xy, yy, shift[0], zero, zero])
    moved: Any = keras.ops.image.affine_transform(
        pixels[None] - fill, row[None], interpolation=how, fill_mode="constant"
    )
    return moved[0] + fill


# Hiding, and changes inside boxes -------------------------------------------------------------------------


def _cut_out(one: One, draw: Draw, limit: float) -> One:
    """A grey square about a random place."""
    sides = _floats(tuple(one.pixels.shape[:2]))
    half = tf.floor(draw.level / _MAX_LEVEL * limit * tf.reduce_min(sides))
    return _hidden(one, tf.floor(draw.place * sides), half * tf.ones(2))


def _cut_out_of_a_box(one: One, draw: Draw) -> One:
    """A grey rectangle about a random place in one box, with a share of its sides."""
    there = tf.where(one.visible > 0)[:, 0]

    def hide() -> One:
        number = tf.random.stateless_uniform((), draw.seed, 0, tf.size(there), tf.int32)
        box = tf.gather(one.boxes, tf.gather(there, number))
        size = box[2:] - box[:2]
        half = tf.floor(draw.level / _MAX_LEVEL * _BOX_CUTOUT * size / 2)
        return _hidden(one, tf.floor(box[:2] + draw.place * size), half)

    return tf.cond(tf.size(there) > 0, hide, lambda: one)


def _hidden(one: One, center: tf.Tensor, half: tf.Tensor) -> One:
    sides = tuple(one.pixels.shape[:2])
    low, high = tf.maximum(center - half, 0.0), tf.minimum(center + half, _floats(sides))
    covered = share_covered(one.boxes[None], tf.concat([low, high], axis=0)[None])[0]
    pixels = _grey_between(one.pixels, low, high)
    return one._replace(pixels=pixels, visible=one.visible * (1 - covered))


def _grey_between(pixels: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    rows, columns = (tf.range(tf.shape(pixels)[axis]) for axis in (0, 1))
    rows, columns = tf.cast(rows, tf.float32)[:, None], tf.cast(columns, tf.float32)
    is_hidden = (rows >= low[0]) & (rows < high[0]) & (columns >= low[1]) & (columns < high[1])
    return tf.where(is_hidden[..., None], _GREY, pixels)


def _inner_change(name: str, limits: Limits, sides: tuple[int, int]) -> ImageChange:
    """The operation of that name on the part of an image inside a box, (h, w, 3)."""
    if name in _COLORS:
        return _COLORS[name]
    if name == "Cutout":
        reach = limits.box_cutout * min(sides)

        def hide(pixels: tf.Tensor, draw: Draw) -> tf.Tensor:
            center = tf.floor(draw.place * tf.cast(tf.shape(pixels)[:2], tf.float32))
            half = tf.floor(draw.level / _MAX_LEVEL * reach)
            return _grey_between(pixels, center - half, center + half)

        return hide
    move = _MOVES[name]

    def change(pixels: tf.Tensor, draw: Draw) -> tf.Tensor:
        own = tf.cast(tf.shape(pixels)[:2], tf.float32)
        return _resampled(pixels, *move(draw, own, limits.box_translate * _floats(sides)), _GREY)

    return change


def _inside_boxes(change: ImageChange) -> Callable[[One, Draw], One]:
    """Changes what is inside each box by its own chance; boxes and labels stay."""

    def apply(one: One, draw: Draw) -> One:
        chances = tf.random.stateless_uniform(tf.shape(one.visible), draw.seed)
        chosen = (chances < draw.probability / _FEWER_BOXES) & (one.visible > 0)
        boxes = tf.cast(tf.round(tf.boolean_mask(one.boxes, chosen)), tf.int32)

        def step(number: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            top, left, bottom, right = tf.unstack(boxes[number])
            within = change(pixels[top:bottom, left:right], draw)
            rows = pixels[top:bottom]
            changed = tf.concat([rows[:, :left], within, rows[:, right:]], axis=1)
            whole = tf.concat([pixels[:top], changed, pixels[bottom:]], axis=0)
            return number + 1, tf.ensure_shape(whole, one.pixels.shape)

        def is_left(number: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
            return number < tf.shape(boxes)[0]

        boxes = tf.boolean_mask(boxes, tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1))
        _, pixels = tf.while_loop(is_left, step, (tf.constant(0), one.pixels), parallel_iterations=1)
        return one._replace(pixels=pixels)

    return apply
