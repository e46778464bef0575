"""Counts boxes by class, split and size, in arrays over all images of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effkeras.data.records import ClassificationData, DetectionData, LabelledData

# COCO's borders of small, medium and large boxes, in square pixels.
SMALL, LARGE = 32.0**2, 96.0**2


@dataclass(frozen=True, eq=False, slots=True)
class Boxes:
    """All boxes of a split: float32 (n, 4), with the position of each one's image, and its class.

    `sizes` is float64 (images, 2): the height and width of each image.
    """

    boxes: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    sizes: np.ndarray


def all_boxes(data: DetectionData) -> Boxes:
    """The boxes of a split in one table."""
    records = data.records
    counts = [len(record.boxes) for record in records]
    nothing = np.zeros(0)
    return Boxes(
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in records)]),
        images=np.repeat(np.arange(len(records)), counts),
        classes=np.concatenate([nothing, *(record.classes for record in records)]).astype(np.int64),
        areas=np.concatenate([nothing, *(record.areas for record in records)]),
        crowd=np.concatenate([nothing, *(record.crowd for record in records)]).astype(bool),
        sizes=np.array([record.size for record in records], np.float64).reshape(-1, 2),
    )


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: boxes (or images) by split; of all its boxes, how many are small, medium and large by COCO.

    `share` is the median share of the image's area that a box covers; 0 without boxes.
    """

    label: str
    counts: tuple[int, ...]
    sizes: tuple[int, int, int] = (0, 0, 0)
    share: float = 0.0


def class_rows(splits: Sequence[LabelledData]) -> list[ClassRow]:
    """The classes of splits that have the same classes, in their order."""
    labels = splits[0].labels
    detection = [data for data in splits if isinstance(data, DetectionData)]
    if not detection:
        counts = [_image_counts(data, len(labels)) for data in splits if isinstance(data, ClassificationData)]
        return [
            ClassRow(label, tuple(int(one[place]) for one in counts)) for place, label in enumerate(labels)
        ]
    tables = [all_boxes(data) for data in detection]
    classes = np.concatenate([one.classes for one in tables])
    sizes = np.searchsorted([SMALL, LARGE], np.concatenate([one.areas for one in tables]), side="right")
    shares = np.concatenate([_shares(one) for one in tables])
    order = np.argsort(classes, kind="stable")
    parts = np.searchsorted(classes[order], np.arange(1, len(labels)))
    by_class = zip(np.split(sizes[order], parts), np.split(shares[order], parts), strict=True)
    counts = [np.bincount(one.classes, minlength=len(labels)) for one in tables]
    return [
        ClassRow(
            label,
            tuple(int(one[place]) for one in counts),
            tuple(np.bincount(own, minlength=3).tolist()),
            float(np.median(share)) if len(share) else 0.0,
        )
        for place, (label, (own, share)) in enumerate(zip(labels, by_class, strict=True))
    ]


def without_boxes(data: LabelledData) -> list[int]:
    """The positions of the images that have no box; none where images have a class or a label map."""
    if not isinstance(data, DetectionData):
        return []
    records = enumerate(data.records)
    return [place for place, one in records if not len(one.boxes) and not isinstance(one.masks, Path)]


def _image_counts(data: ClassificationData, classes: int) -> np.ndarray:
    return np.bincount([record.label for record in data.records], minlength=classes)


def _shares(table: Boxes) -> np.ndarray:
    """The share of the image's area that each box covers."""
    sides = table.boxes[:, 2:] - table.boxes[:, :2]
    return sides.prod(axis=1) / np.prod(table.sizes, axis=1)[table.images]
