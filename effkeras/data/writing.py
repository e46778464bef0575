"""What the writers of all formats share: images are copied and named once, masks become polygons."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from effkeras.data.image_files import unique_names
from effkeras.data.records import DetectionData, DetectionRecord, LabelledData, RunLengths
from effkeras.data.segmentations import extent, outlines, polygon_area
from effkeras.support.console import note_once, track
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder

_REFITTED = 0.5  # pixels by which the extent of a mask may differ from its box, unsaid


def names_in_one_folder(splits: Iterable[LabelledData]) -> Mapping[Path, str]:
    """The file names of the images of all splits for a format that keeps them in one folder."""
    return unique_names(record.path for data in splits for record in data.records)


def copy_images(
    data: LabelledData, folder: Path, names: Mapping[Path, str] | None = None
) -> Mapping[Path, str]:
    """Copies the images of a split into `folder`, and returns each one's new file name.

    Images of different folders with the same name get the name of their folder in front. A format that keeps
    the images of all splits in one folder gives the `names_in_one_folder`. Raises EffkerasError when a file
    cannot be read or written.
    """
    names = names or unique_names(record.path for record in data.records)
    make_folder(folder)
    paths = list(dict.fromkeys(record.path for record in data.records))
    for path in track(paths, f"copying {data.split}", total=len(paths)):
        name = names[path]
        try:
            shutil.copyfile(path, folder / name)
        except OSError as error:
            raise EffkerasError(f"cannot copy {path} to {folder}: {error.strerror}") from error
    return names


def short(value: float) -> float:
    """A coordinate without needless decimals: a whole number, or at most three digits after the point."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded.is_integer() else rounded


def detection(data: LabelledData, title: str) -> DetectionData:
    """The data itself. Raises EffkerasError when a format of boxes cannot hold it."""
    if not isinstance(data, DetectionData):
        raise EffkerasError(f"{data.root}: {title} holds boxes, and these images have classes only")
    return data


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
