"""Builds the records of one split from what a format's reader has parsed.

A reader only parses: `SplitBuilder` checks names, sizes and boxes alike for every format, and counts and
names whatever is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effkeras.data.images import image_size, tolerated
from effkeras.data.records import (
    Category,
    DetectionData,
    DetectionRecord,
    Mask,
    ReadOptions,
    Skipped,
)
from effkeras.definitions.class_names import checked_class_name, class_key, natural_key
from effkeras.support.errors import EffkerasError

LARGEST_SIDE = 100_000  # pixels; JPEG allows at most 65,535
SLACK = 1.0  # pixels by which annotation tools commonly exceed an image
THINNEST = 0.01  # pixels; thinner boxes vanish when rounded to float32

Corners = tuple[float, float, float, float]  # ymin, xmin, ymax, xmax in pixels


class Annotation(NamedTuple):
    """One object of an image, as its labels state it.

    `what` names it within the labels, such as "object 3"; `label` is its class name; `corners` its box, None
    where the labels have no readable box. `problem` says why the annotation is bad, "" for a good one: the
    builder then leaves it out or raises. `crowd` marks a region that losses and metrics ignore; `area` is in
    square pixels, None for that of the box. `shown` is the box as the format writes it; errors show its text.
    """

    what: str
    label: str
    corners: Corners | None
    problem: str = ""
    crowd: bool = False
    area: float | None = None
    mask: Mask | None = None
    shown: object = ""


class SplitBuilder:
    """Collects the images of one split, and checks their annotations.

    Args:
        root: the data set.
        split: the split's name.
        options: how to read; without `skip_bad` the first bad item raises.
        categories: the classes if the format lists them; else they are the classes of the annotations, in
            natural order, with ids from 1 on.
    """

    def __init__(
        self, root: Path, split: str, options: ReadOptions, categories: Sequence[Category] | None = None
    ) -> None:
        self._root, self._split, self._options = root, split, options
        self._categories = categories
        self._known = {class_key(one.name) for one in categories or ()}
        self._names: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._records: list[tuple[DetectionRecord, list[str]]] = []
        self._skipped: list[Skipped] = []
        self._clipped: list[str] = []
        self._lost: list[Skipped] = []

    def add(
        self,
        path: Path,
        size: tuple[int, int] | None,
        annotations: Iterable[Annotation],
        *,
        where: str,
        image_id: int | None = None,
    ) -> None:
        """Adds one image.

        Args:
            path: the image file; it must exist.
            size: its height and width as the labels state them; None reads them from the file.
            annotations: its objects.
            where: the label file, for errors.
            image_id: the image's number; by default images count from 1 on.

        Raises:
            EffkerasError: a bad annotation or size, unless bad items are skipped.
        """
        try:
            size = _checked_size(size) if size else image_size(path)
        except EffkerasError as error:
            self.lose_image(where, str(error))
            return
        kept: list[Annotation] = []
        unknown: list[Corners] = []
        for one in annotations:
            good, problem = self._checked(one, size, where)
            if good is not None:
                kept.append(good)
            else:
                self.skip(f"{where}: {one.what}", problem)
                unknown.append(unknown_region(one.corners, size))
        number = len(self._records) + 1 if image_id is None else image_id
        self._records.append((_record(path, number, size, kept, unknown), [one.label for one in kept]))

    def skip(self, what: str, why: str) -> None:
        """Leaves out an annotation. Raises EffkerasError when bad items are not to be skipped."""
        if not self._options.skip_bad:
            raise EffkerasError(
                f"{what}: {why}; correct it, or leave bad items out with --skip-bad "
                "(`effkeras data check` lists them all)"
            )
        self._skipped.append(Skipped(what, why))

    def lose_image(self, what: str, why: str) -> None:
        """Leaves out an image that is missing or unreadable; `build` raises if there are too many."""
        self._lost.append(Skipped(what, why, is_image=True))

    def build(self) -> DetectionData:
        """The split.

        Raises EffkerasError when more than 1 in 100 images are missing, unless bad items are skipped; and
        when no image or no annotation is left.
        """
        total = len(self._records) + len(self._lost)
        if self._lost and not (self._options.skip_bad or tolerated(len(self._lost), total)):
            first = self._lost[0]
            raise EffkerasError(
                f"{self._root}: {len(self._lost)} of {total} images of the split {self._split!r} cannot be "
                f"used; the first: {first.what}: {first.why}; correct them, or leave them out with --skip-bad"
            )
        if not self._records:
            why = f"; the first: {self._lost[0].what}: {self._lost[0].why}" if self._lost else ""
            raise EffkerasError(f"{self._root}: the split {self._split!r} has no usable image{why}")
        categories = tuple(self._categories or _numbered(self._names))
        index = {class_key(one.name): position for position, one in enumerate(categories)}
        records = tuple(_labelled(record, labels, index) for record, labels in self._records)
        if not any(len(record.boxes) for record in records) and self._skipped:
            first = self._skipped[0]
            raise EffkerasError(
                f"{self._root}: none of the {len(self._skipped)} annotations of the split {self._split!r} is "
                f"usable; the first: {first.what}: {first.why}"
            )
        return DetectionData(
            self._root,
            self._split,
            categories,
            records,
            (*self._skipped, *self._lost),
            clipped=tuple(self._clipped),
        )

    def _checked(self, one: Annotation, size: tuple[int, int], where: str) -> tuple[Annotation | None, str]:
        """The annotation with its box clipped to the image; or None and the problem."""
        if one.problem or one.corners is None:
            return None, one.problem or "it has no box"
        try:
            label = self._class(one.label)
            corners, cut = clipped_corners(one.corners, size, one.shown)
        except EffkerasError as error:
            return None, str(error)
        if cut:
            self._clipped.append(f"{where}: {one.what}")
        return Annotation(one.what, label, corners, "", one.crowd, one.area, one.mask), ""

    def _class(self, name: str) -> str:
        """The key of a class; it is worked out, and its name checked, once for each name."""
        if name not in self._keys:
            self._keys[name] = self._checked_key(name)
        return self._keys[name]

    def _checked_key(self, name: str) -> str:
        key = class_key(name)
        if self._categories is None:
            if key not in self._names:
                self._names[key] = checked_class_name(name)
        elif key not in self._known:
            raise EffkerasError(f"its class {name[:60]!r} is not in the data set's list of classes")
        return key


def clipped_corners(corners: Corners, size: tuple[int, int], shown: object = "") -> tuple[Corners, bool]:
    """A box clipped to its image, and whether more than 1 pixel was cut off.

    Args:
        corners: ymin, xmin, ymax, xmax in pixels.
        size: the image's height and width.
        shown: the box as the format writes it; errors show its text.

    Raises:
        EffkerasError: a corner is not a finite number, or the box has no area or lies outside the image.
    """
    top, left, bottom, right = corners
    height, width = size
    if (
        0 <= top <= bottom - THINNEST <= height - THINNEST
        and 0 <= left <= right - THINNEST <= width - THINNEST
    ):
        return corners, False  # nearly all boxes; the rest of the checks would double their time
    if not all(map(math.isfinite, corners)):
        raise EffkerasError(f"its box {shown or list(corners)} has a value that is not a finite number")
    if right - left < THINNEST or bottom - top < THINNEST:
        raise EffkerasError(f"its box {shown or list(corners)} has no area")
    overshoot = max(-left, -top, right - width, bottom - height)
    clipped = (max(top, 0.0), max(left, 0.0), min(bottom, height), min(right, width))
    if min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < THINNEST:
        text = f"its box {shown or list(corners)} lies outside the image ({width} x {height})"
        raise EffkerasError(text)
    return clipped, overshoot > SLACK


def unknown_region(corners: Corners | None, size: tuple[int, int]) -> Corners:
    """Where the object of a bad annotation may lie: its box, or the whole image along an axis without extent.

    `corners` None, values that are not finite, and a box outside the image give the whole image.
    """
    height, width = size
    if corners is None or not all(map(math.isfinite, corners)):
        return (0.0, 0.0, height, width)
    top, left = max(corners[0], 0.0), max(corners[1], 0.0)
    bottom, right = min(corners[2], height), min(corners[3], width)
    if bottom - top < THINNEST:
        top, bottom = 0.0, height
    if right - left < THINNEST:
        left, right = 0.0, width
    return (top, left, bottom, right)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    if not all(1 <= side <= LARGEST_SIDE for side in size):
        raise EffkerasError(f"its labels state a size of {size[1]} x {size[0]} pixels; correct it")
    return size


def _record(
    path: Path, number: int, size: tuple[int, int], kept: Sequence[Annotation], unknown: Sequence[Corners]
) -> DetectionRecord:
    boxes = np.array([one.corners for one in kept], np.float32).reshape(-1, 4)
    own = [_box_area(one.corners) if one.area is None else one.area for one in kept if one.corners]
    has_masks = any(one.mask is not None for one in kept)
    return DetectionRecord(
        path=path,
        image_id=number,
        size=size,
        boxes=boxes,
        classes=np.zeros(len(kept), np.int64),
        crowd=np.array([one.crowd for one in kept], bool),
        areas=np.array(own, np.float32),
        masks=tuple(one.mask for one in kept) if has_masks else (),
        unknown=np.array(unknown, np.float32).reshape(-1, 4),
    )


def _box_area(corners: Corners) -> float:
    return (corners[2] - corners[0]) * (corners[3] - corners[1])


def _labelled(record: DetectionRecord, labels: Sequence[str], index: dict[str, int]) -> DetectionRecord:
    record.classes[:] = [index[label] for label in labels]
    return record


def _numbered(names: dict[str, str]) -> list[Category]:
    ordered = sorted(names.values(), key=natural_key)
    return [Category(position, name) for position, name in enumerate(ordered, 1)]
