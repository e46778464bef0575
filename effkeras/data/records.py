"""Records of labelled images, which every reader returns whatever the format on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Category:
    """A class of the data set; ids may have gaps (COCO's do)."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item left out of a data set, and the reason."""

    what: str
    why: str


@dataclass(frozen=True, eq=False, slots=True)
class Polygons:
    """A mask as polygons, each float32 (n, 2): x, y in pixels."""

    points: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False, slots=True)
class RunLengths:
    """A mask as COCO's run lengths, int64 (n,): down the columns, pixels outside the mask first."""

    counts: np.ndarray


Mask = Polygons | RunLengths


@dataclass(frozen=True, eq=False, slots=True)
class DetectionRecord:
    """One image with its boxes.

    `boxes` is float32 (n, 4): ymin, xmin, ymax, xmax in pixels; `classes` is int64 (n,), an index into
    the data set's categories; `crowd` is bool (n,): COCO's iscrowd; `areas` is float32 (n,): the
    annotated area in pixels, by which COCO separates small, medium and large. `masks` is a mask (or None)
    for each box, or the PNG file of the image's label map; both only if the reader was asked for masks.
    """

    path: Path
    image_id: int
    size: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    masks: tuple[Mask | None, ...] | Path = ()


@dataclass(frozen=True, slots=True)
class DetectionData:
    """One split of images with boxes.

    `map_classes` gives the class of each value of the PNG label maps, from value 1 on; None when value v is
    class v - 1.
    """

    root: Path
    split: str
    categories: tuple[Category, ...]
    records: tuple[DetectionRecord, ...]
    skipped: tuple[Skipped, ...] = ()
    map_classes: tuple[int, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the class indices."""
        return tuple(category.name for category in self.categories)


@dataclass(frozen=True, slots=True)
class ClassificationRecord:
    """One image with its class index."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """One split of images with one class each."""

    root: Path
    split: str
    labels: tuple[str, ...]
    records: tuple[ClassificationRecord, ...]
    skipped: tuple[Skipped, ...] = ()


LabelledData = DetectionData | ClassificationData
