"""Preprocessing: places an image of any size in a network's input.

Training, evaluation, calibration and prediction all use this code. Pixels stay on the 0..255 scale;
normalisation is the model's first layer. Resizing is bilinear with half-pixel centres and no antialiasing,
as in `tf.image.resize` and in the training of the published networks. Pixels are rounded, so that a float
model and an 8-bit artifact get the same image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effkeras.definitions.definition import InputSpec


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """The position of an image in the network's input.

    `scale` is input pixels per image pixel, (y, x); `offset` is the image's corner in the input,
    (y, x), negative where it is cropped. `size` is the image's (height, width).
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    size: tuple[int, int]

    def stated_in(self, size: tuple[int, int]) -> Placement:
        """The same placement for boxes in pixels of an image of another (height, width)."""
        scale = tuple(
            one * ours / theirs for one, ours, theirs in zip(self.scale, self.size, size, strict=True)
        )
        return Placement((scale[0], scale[1]), self.offset, size)

    def to_input(self, boxes: np.ndarray) -> np.ndarray:
        """Converts boxes (n, 4) from image pixels to input pixels."""
        return (boxes * np.tile(self.scale, 2) + np.tile(self.offset, 2)).astype(np.float32)

    def to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Converts boxes (n, 4) from input pixels to image pixels, clipped to the image."""
        moved = (boxes - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        return np.clip(moved, 0, np.tile(self.size, 2)).astype(np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class Placed:
    """An image in the network's input.

    `content` is uint8 (h, w, 3), the part with the image; the rest, below and right of it, is filled with the
    mean colour, which normalises to 0.
    """

    content: np.ndarray
    placement: Placement


def place(image: np.ndarray, spec: InputSpec) -> Placed:
    """Resizes an image for the network.

    Args:
        image: uint8 (h, w, 3) RGB.
        spec: the input size and the method: "letterbox" keeps the aspect ratio and pads below and right;
            "center-crop" takes the central part in the input's shape, `crop` times the largest that fits.
    """
    height, width = image.shape[:2]
    where = placement((height, width), spec)
    if spec.resize == "letterbox":
        return Placed(resize_bilinear(image, _letterbox_size((height, width), spec.size)), where)
    top, left, *cut = _crop((height, width), spec)
    content = resize_bilinear(image[top : top + cut[0], left : left + cut[1]], spec.size)
    return Placed(content, where)


def placement(size: tuple[int, int], spec: InputSpec) -> Placement:
    """The position of an image of (height, width) in the network's input, as `place` gives it."""
    if spec.resize == "letterbox":
        inner = _letterbox_size(size, spec.size)
        return Placement((inner[0] / size[0], inner[1] / size[1]), (0.0, 0.0), size)
    top, left, *cut = _crop(size, spec)
    factors = (spec.size[0] / cut[0], spec.size[1] / cut[1])
    return Placement(factors, (-top * factors[0], -left * factors[1]), size)


def fill(content: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The whole input, float32 (H, W, 3): the content, padded with the mean colour."""
    return filled([content], spec)[0]


def filled(contents: Sequence[np.ndarray], spec: InputSpec) -> np.ndarray:
    """The whole inputs of several images, float32 (n, H, W, 3), as `fill`."""
    pixels = np.empty((len(contents), *spec.size, 3), np.float32)
    for whole, content in zip(pixels, contents, strict=True):
        height, width = content.shape[:2]
        whole[:height, :width] = content
        whole[height:] = spec.mean
        whole[:height, width:] = spec.mean
    return pixels


def network_input(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Applies `place` and `fill`: uint8 (h, w, 3) to float32 (H, W, 3)."""
    return fill(place(image, spec).content, spec)


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resizing of uint8 (h, w, 3) to uint8 (*size, 3)."""
    if image.shape[:2] == size:
        return image
    tops, bottoms, down = _neighbours(image.shape[0], size[0])
    lefts, rights, across = _neighbours(image.shape[1], size[1])
    lines = image.reshape(image.shape[0], -1)
    rows = _blended(lines.take(tops, axis=0), lines.take(bottoms, axis=0), down[:, None])
    rows = rows.reshape(size[0], -1, 3)
    left, right = (rows.take(places, axis=1).reshape(size[0], -1) for places in (lefts, rights))
    pixels = _blended(left, right, np.repeat(across, 3))
    return np.rint(pixels, out=pixels).astype(np.uint8).reshape(*size, 3)


def _blended(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """first * (1 - weight) + second * weight in float32; changes float arguments, to touch memory less."""
    first, second = (one.astype(np.float32, copy=False) for one in (first, second))
    first *= 1 - weight
    second *= weight
    first += second
    return first


def content_size(size: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """Height and width of what `place` makes of an image of (height, width)."""
    return _letterbox_size(size, spec.size) if spec.resize == "letterbox" else spec.size


def _letterbox_size(image: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The height and width of the resized image."""
    height, width = image
    if size[0] * width <= size[1] * height:  # integers, because float rounding could lose a pixel
        return size[0], max(1, size[0] * width // height)
    return max(1, size[1] * height // width), size[1]


def _crop(image: tuple[int, int], spec: InputSpec) -> tuple[int, int, int, int]:
    """The part that is used: its top, left, height and width."""
    height, width = image
    ratio = min(height / spec.size[0], width / spec.size[1]) * spec.crop
    cut = (max(1, round(spec.size[0] * ratio)), max(1, round(spec.size[1] * ratio)))
    return (height - cut[0]) // 2, (width - cut[1]) // 2, *cut


def _neighbours(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two input pixels around each output pixel, and its distance from the first."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.floor(position).astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (position - first).astype(np.float32)
