"""The images of a data set as tiles of a contact sheet, with what their labels say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effkeras.data.images import read_image
from effkeras.data.masks import IGNORED, MaskClasses, label_map
from effkeras.data.reading import same_shape, sides
from effkeras.data.records import ClassificationRecord, DetectionData, DetectionRecord, LabelledData
from effkeras.data.sizes import scaled_to, size_problem
from effkeras.inference.contact_sheet import Tile
from effkeras.support.errors import EffkerasError

_MOST_MASK_CLASSES = IGNORED - 1  # values of a label map: 0 is the background


def mask_classes_of(data: LabelledData) -> MaskClasses | None:
    """The classes of the data set as values of label maps, from 1 on; None for data without masks."""
    if not isinstance(data, DetectionData) or len(data.labels) > _MOST_MASK_CLASSES:
        return None
    if not any(isinstance(one.masks, Path) or any(one.masks) for one in data.records):
        return None
    values = () if data.map_classes is None else (0, *(label + 1 for label in data.map_classes))
    return MaskClasses(len(data.labels) + 1, tuple(range(1, len(data.labels) + 1)), values)


def tiles_of(data: LabelledData) -> list[Tile]:
    """A tile for each image, as it is in its file; an unreadable image is grey and says why."""
    classes = mask_classes_of(data)
    return [_tile(record, data, classes) for record in data.records]


def masks_in(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The class and the pixels of each mask in a label map, uint8 (h, w)."""
    found = [int(value) for value in np.unique(labels) if value not in (0, IGNORED)]
    return [(value - 1, labels == value) for value in found]


def _tile(
    record: DetectionRecord | ClassificationRecord, data: LabelledData, masks: MaskClasses | None
) -> Tile:
    title = str(record.path).removeprefix(f"{data.root}/")
    try:
        pixels = read_image(record.path)
        size = (pixels.shape[0], pixels.shape[1])
        if isinstance(record, ClassificationRecord):
            return plain_tile(pixels, title, f"{data.labels[record.label]}, {sides(size)}")
        if record.size != size and not same_shape(size, record.size):
            return plain_tile(pixels, title, size_problem(size, record.size))
        what = "label map" if isinstance(record.masks, Path) else f"{len(record.boxes)} boxes"
        line = f"{sides(size)}, {what}"
        if record.size != size:
            line += f", scaled from {sides(record.size)}"
            record = scaled_to(record, size)
        drawn = masks_in(label_map(record, masks, size)) if masks else ()
    except EffkerasError as error:
        grey = np.full((120, 160, 3), 200, np.uint8)
        return plain_tile(grey, title, str(error).removeprefix(f"{record.path}: "))
    if len(record.unknown):
        line += f", {len(record.unknown)} left out"
    unknown = len(record.unknown)
    return Tile(
        pixels=pixels,
        boxes=np.concatenate([record.boxes, record.unknown]),
        classes=np.concatenate([record.classes, np.zeros(unknown, np.int64)]),
        ignored=np.concatenate([record.crowd, np.ones(unknown, bool)]),
        title=title,
        line=line,
        masks=drawn,
    )


def plain_tile(pixels: np.ndarray, title: str, line: str) -> Tile:
    """A tile without boxes."""
    nothing = np.zeros(0, np.int64)
    return Tile(pixels, np.zeros((0, 4), np.float32), nothing, nothing.astype(bool), title, line)
