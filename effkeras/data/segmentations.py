"""Conversions of COCO's `segmentation`: run lengths and polygons to pixels and back, and masks as outlines.

NumPy encodes and decodes run lengths 1.3 to 2.3 times as fast as faster-coco-eval's functions (64 to 1024
pixels a side). faster-coco-eval unpacks COCO's compressed form about 10 times as fast as a Python loop.
Neither it nor pycocotools traces polygons without OpenCV.
"""

from __future__ import annotations

import math
import reprlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.data.records import DetectionData, DetectionRecord, Mask, Polygons, RunLengths
from effkeras.data.writing import short
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError

_REFITTED = 0.5  # pixels by which the extent of a mask may differ from its box, unsaid
Segmentation = list[list[float]] | dict[str, list[int]]


def parse_segmentation(value: Any, size: tuple[int, int]) -> Mask | None:
    """COCO's `segmentation` of one box in an image of `size` (height, width): polygons or run lengths.

    None when it is missing or empty. Raises EffkerasError for other values.
    """
    if value is None or value == []:
        return None
    if isinstance(value, list):
        return Polygons(tuple(_points(one) for one in value))
    if isinstance(value, dict):
        return _run_lengths(value, size)
    raise EffkerasError(f"its segmentation is {reprlib.repr(value)}, not polygons or run lengths")


def pixels_of(mask: Mask, size: tuple[int, int]) -> np.ndarray:
    """A mask's pixels, bool (h, w), drawn as by COCO's own tools."""
    if isinstance(mask, RunLengths):
        values = np.repeat(np.arange(len(mask.counts)) % 2 == 1, mask.counts)
        return values.reshape(size, order="F")
    from faster_coco_eval.core import mask as coco_mask

    height, width = size
    inside = [np.clip(points, 0, (width, height)).ravel().tolist() for points in mask.points]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(inside, height, width))).astype(bool)


def mask_area(mask: Mask) -> float:
    """A mask's area in square pixels: that of its polygons, or its pixels."""
    if isinstance(mask, RunLengths):
        return float(mask.counts[1::2].sum())
    return sum(polygon_area(points.astype(np.float64)) for points in mask.points)


def written(mask: Mask, size: tuple[int, int]) -> Segmentation:
    """A mask of an image of `size` (height, width) as COCO's `segmentation`: the inverse of parsing."""
    if isinstance(mask, RunLengths):
        return {"size": list(size), "counts": mask.counts.tolist()}
    return [[short(value) for value in points.ravel().tolist()] for points in mask.points]


def encode_rle(mask: np.ndarray) -> dict[str, list[int]]:
    """A bool mask (height, width) as COCO's uncompressed run lengths: down the columns, zeros first."""
    flat = np.concatenate([[False], mask.astype(bool).ravel(order="F")])
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], turns, [mask.size]]))
    return {"size": [int(side) for side in mask.shape], "counts": counts.tolist()}


def trace_polygons(mask: np.ndarray) -> list[list[float]]:
    """The outer borders of a bool mask (height, width) as COCO polygons: x, y, x, y... in pixels.

    A polygon follows the edges between pixels clockwise, so it covers exactly its pixels. Pixels that touch
    only at a corner get separate polygons. Holes are filled, because COCO's polygons cannot represent them.
    """
    loops = [loop for loop in _follow(_boundary_steps(mask.astype(bool))) if _area(loop) > 0]
    return [[float(value) for point in _corners(loop) for value in point] for loop in loops]


def polygon_area(points: np.ndarray) -> float:
    """The area of a polygon (n, 2) in square pixels."""
    x, y = (points - points[0]).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


class Outlines:
    """The polygons of a split's masks, for formats that have no other masks; `note` tells what they lose."""

    def __init__(self) -> None:
        self._refitted = self._filled = self._maps = 0

    def of(self, record: DetectionRecord, place: int) -> list[np.ndarray]:
        """The polygons of a box's mask, each float (n, 2): x, y inside the image; [] without a mask."""
        if isinstance(record.masks, Path) or not record.masks:
            self._maps += isinstance(record.masks, Path) and place == 0
            return []
        mask = record.masks[place]
        polygons = [] if mask is None else outlines(mask, record.size)
        if polygons:
            edges = np.array(extent(np.clip(np.concatenate(polygons), 0, record.size[::-1])))
            self._refitted += bool(np.abs(edges - record.boxes[place]).max() > _REFITTED)
            whole = sum(map(polygon_area, polygons))
            self._filled += isinstance(mask, RunLengths) and int(mask.counts[1::2].sum()) < round(whole)
        return [np.clip(polygon, 0, record.size[::-1]) for polygon in polygons]

    def note(self, data: DetectionData, title: str) -> None:
        """Notes how many masks changed in a split."""
        where = f"{data.root}: the split {data.split!r}"
        if self._refitted:
            note_once(f"{where}: in {title}, {self._refitted} boxes become the extent of their masks")
        if self._filled:
            note_once(f"{where}: {title} has no holes in masks: those of {self._filled} masks are filled")
        if self._maps:
            note_once(f"{where}: the label maps of {self._maps} images are not written, only the boxes")


def outlines(mask: Mask, size: tuple[int, int]) -> list[np.ndarray]:
    """The polygons of a mask, each float (n, 2): x, y in pixels. Run lengths are traced."""
    if isinstance(mask, Polygons):
        return [np.asarray(points, float) for points in mask.points]
    return [np.array(one).reshape(-1, 2) for one in trace_polygons(pixels_of(mask, size))]


def extent(points: np.ndarray) -> tuple[float, float, float, float]:
    """The box around points (n, 2): ymin, xmin, ymax, xmax."""
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return top, left, bottom, right


def _points(values: Any) -> np.ndarray:
    is_list = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not is_list or len(values) % 2 or len(values) < 6 or not all(map(math.isfinite, values)):
        raise EffkerasError(f"its polygon {reprlib.repr(values)} is not x, y of three or more points")
    return np.array(values, np.float32).reshape(-1, 2)


def _run_lengths(value: dict[str, Any], size: tuple[int, int]) -> RunLengths:
    counts: Any = value.get("counts")
    if value.get("size") != list(size):
        shown = reprlib.repr(value.get("size"))
        raise EffkerasError(f"its run lengths are of size {shown}, and the image is {list(size)}")
    if isinstance(counts, str):
        counts = _unpacked(counts, size)
    is_list = isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)
    if not is_list or sum(counts) != size[0] * size[1]:
        raise EffkerasError(f"its run lengths {reprlib.repr(value.get('counts'))} do not add up to the image")
    return RunLengths(np.array(counts, np.int64))


def _unpacked(text: str, size: tuple[int, int]) -> list[int]:
    """The counts of COCO's compressed run lengths; [] for an invalid text."""
    from faster_coco_eval.mask_api_new_cpp import toUncompressedRLE

    try:
        return toUncompressedRLE([{"size": list(size), "counts": text}])[0]["counts"]  # type: ignore[no-any-return]
    except (RuntimeError, ValueError, TypeError):
        return []


Point = tuple[int, int]  # row, column of a corner between pixels


def _boundary_steps(mask: np.ndarray) -> dict[Point, list[Point]]:
    """The steps along a mask's borders, from corner to corner, each with the mask on its right."""
    padded = np.pad(mask, 1)
    ends: dict[Point, list[Point]] = defaultdict(list)
    for (dy, dx), start, end in _SIDES:
        neighbour = np.roll(padded, (-dy, -dx), (0, 1))
        for row, column in (np.argwhere(padded & ~neighbour) - 1).tolist():
            ends[row + start[0], column + start[1]].append((row + end[0], column + end[1]))
    return ends


# The offset of the neighbour above, right, below, left, and the corners at the ends of the shared side.
_SIDES = (
    ((-1, 0), (0, 0), (0, 1)),
    ((0, 1), (0, 1), (1, 1)),
    ((1, 0), (1, 1), (1, 0)),
    ((0, -1), (1, 0), (0, 0)),
)


def _follow(ends: dict[Point, list[Point]]) -> list[list[Point]]:
    """Joins steps into closed loops; where two loops touch, it turns right, which keeps them separate."""
    loops = []
    for start in sorted(ends):
        while ends[start]:
            loop, here = [start], ends[start].pop()
            while here != start:
                loop.append(here)
                here = _next(loop[-2], here, ends[here])
            loops.append(loop)
    return loops


def _next(before: Point, here: Point, choices: list[Point]) -> Point:
    right = (here[0] + here[1] - before[1], here[1] - here[0] + before[0])
    if len(choices) > 1 and choices[-1] != right:
        choices.reverse()
    return choices.pop()


def _area(loop: Sequence[Point]) -> float:
    """Twice the signed area in square pixels: positive for outer borders, negative for holes."""
    rows, columns = np.array(loop).T
    return float(np.dot(columns, np.roll(rows, -1)) - np.dot(rows, np.roll(columns, -1)))


def _corners(loop: Sequence[Point]) -> list[Point]:
    """The points where a loop turns, as x, y."""
    points = np.array(loop)
    turns = (points - np.roll(points, 1, 0) != np.roll(points, -1, 0) - points).any(1)
    return [(column, row) for row, column in points[turns].tolist()]
