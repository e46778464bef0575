"""Masks as polygons, for formats of labels that have no run lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effkeras.data.records import DetectionData, DetectionRecord, Mask, Polygons, RunLengths
from effkeras.data.segmentations import pixels_of, polygon_area, trace_polygons
from effkeras.support.console import note_once

_REFITTED = 0.5  # pixels by which the extent of a mask may differ from its box, unsaid


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
