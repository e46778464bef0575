"""Records of labelled images, which every reader returns whatever the format on disk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a split.

    `skip_bad` leaves out bad annotations and images and lists them in `.skipped`, instead of failing at the
    first. `masks` also reads the masks of annotations. `one_based` says that the corners xmin and ymin of
    Pascal VOC files count pixels from 1.
    """

    skip_bad: bool = False
    masks: bool = False
    one_based: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """A class of the data set; ids may have gaps (COCO's do)."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item left out of a data set, with its file, and the reason; `is_image` for a whole image."""

    what: str
    why: str
    is_image: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Polygons:
    """A mask as polygons, each float32 (n, 2): x, y in pixels."""

    points: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False, slots=True)
class RunLengths:
    """A mask as COCO's run lengths, int64 (n,): down the columns, pixels outside the mask first."""

    counts: np.ndarray


Mask = Polygons | RunLengths


def no_boxes() -> np.ndarray:
    """No boxes: float32 (0, 4)."""
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class DetectionRecord:
    """One image with its boxes.

    `boxes` is float32 (n, 4): ymin, xmin, ymax, xmax in pixels; `classes` is int64 (n,), an index into
    the data set's categories; `crowd` is bool (n,): COCO's iscrowd; `areas` is float32 (n,): the
    annotated area in pixels, by which COCO separates small, medium and large. `masks` is a mask (or None)
    for each box, or the PNG file of the image's label map; both only if the reader was asked for masks.
    `unknown` is float32 (k, 4): the regions of annotations that were left out. What lies there may be an
    object of any class, so the loss and the metrics ignore it.
    """

    path: Path
    image_id: int
    size: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    masks: tuple[Mask | None, ...] | Path = ()
    unknown: np.ndarray = field(default_factory=no_boxes)

    def with_unknown_as_crowds(self, classes: int) -> DetectionRecord:
        """The record with a crowd of each of `classes` classes in place of every unknown region.

        Losses and metrics then ignore these regions like COCO's crowds. `masks` no longer matches the boxes.
        """
        if not len(self.unknown):
            return self
        labels = np.repeat(np.arange(classes, dtype=np.int64), len(self.unknown))
        regions = np.tile(self.unknown, (classes, 1))
        return replace(
            self,
            boxes=np.concatenate([self.boxes, regions]),
            classes=np.concatenate([self.classes, labels]),
            crowd=np.concatenate([self.crowd, np.ones(len(labels), bool)]),
            areas=np.concatenate([self.areas, np.prod(regions[:, 2:] - regions[:, :2], axis=1)]),
            unknown=no_boxes(),
        )


@dataclass(frozen=True, slots=True)
class DetectionData:
    """One split of images with boxes.

    `skipped` lists the images and annotations left out, `clipped` the annotations whose boxes reached more
    than 1 pixel beyond their images and were cut there. `options` are those that it was opened with.

    `map_classes` gives the class of each value of the PNG label maps, from value 1 on; None when value v is
    class v - 1.
    """

    root: Path
    split: str
    categories: tuple[Category, ...]
    records: tuple[DetectionRecord, ...]
    skipped: tuple[Skipped, ...] = ()
    map_classes: tuple[int, ...] | None = None
    clipped: tuple[str, ...] = ()
    options: ReadOptions = ReadOptions()

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
    """One split of images with one class each; `options` are those that it was opened with."""

    root: Path
    split: str
    labels: tuple[str, ...]
    records: tuple[ClassificationRecord, ...]
    skipped: tuple[Skipped, ...] = ()
    options: ReadOptions = ReadOptions()


LabelledData = DetectionData | ClassificationData
