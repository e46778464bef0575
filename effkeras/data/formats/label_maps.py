"""Label maps: images with a PNG file each that gives the class of every pixel, without boxes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from effkeras.data.formats import FORMATS, DataFormat, Evidence, ReadOptions
from effkeras.data.formats.class_folders import LABELS, read_labels
from effkeras.data.images import is_image, list_folder, readable_formats, subfolders
from effkeras.data.records import Category, DetectionData, DetectionRecord
from effkeras.support import files
from effkeras.support.errors import EffkerasError

IMAGES, MASKS = "images", "masks"


@FORMATS.register("label-maps")
class LabelMaps(DataFormat):
    """Segmentation data with a PNG label map for each image."""

    title = "label maps"
    layout = f"SPLIT/images/*.jpg with SPLIT/masks/*.png and {LABELS}"
    evidence = Evidence.FOLDER_NAMES

    def splits(self, root: Path) -> list[str]:
        """The folders in `root` that contain exactly the folders images and masks."""
        return [
            split.name
            for split in subfolders(root)
            if [path.name for path in subfolders(split)] == [IMAGES, MASKS]
        ]

    def read(self, root: Path, split: str, options: ReadOptions) -> DetectionData:
        """Calls `read_label_maps`; `options` have no effect: maps are always read and never skipped."""
        return read_label_maps(root, split)


def read_label_maps(root: Path, split: str) -> DetectionData:
    """Reads one split: `root`/`split`/images with PNG files of the same names in `root`/`split`/masks.

    A value is the class on that line of `root`/labels.txt, counted from 0, which is the background; 255 is
    unknown. The records have no boxes. Raises EffkerasError for a missing split, class list or label map.
    """
    root = Path(root)
    folder = files.inside(root, split)
    if split not in LabelMaps().splits(root):
        raise LabelMaps().missing_split(root, split)
    if not (root / LABELS).is_file():
        raise EffkerasError(f"{root / LABELS} is missing; write the classes of the label maps, one a line")
    names = read_labels(root / LABELS)
    if len(names) < 2:
        raise EffkerasError(f"{root / LABELS}: label maps need two classes or more, the background first")
    images = [path for path in list_folder(folder / IMAGES) if is_image(path)]
    if not images:
        raise EffkerasError(f"{folder / IMAGES}: there are no images; add some")
    maps = map_files(images, folder / MASKS)
    records = tuple(_record(path, identity, maps[path]) for identity, path in enumerate(images))
    categories = tuple(Category(value, name) for value, name in enumerate(names) if value)
    return DetectionData(root, split, categories, records)


def map_files(images: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """The label map of each image: the PNG of its name in `folder`; EffkerasError for a missing one."""
    there = {path.name for path in list_folder(folder)}
    found = {image: folder / f"{image.stem}.png" for image in images}
    missing = [path for path in found.values() if path.name not in there]
    if missing:
        raise EffkerasError(
            f"{len(missing)} of {len(found)} images have no label map, first {missing[0]}; write it, "
            "or take its image out"
        )
    return found


def _record(path: Path, identity: int, label_map: Path) -> DetectionRecord:
    return DetectionRecord(
        path=path,
        image_id=identity,
        size=_size(label_map),
        boxes=np.zeros((0, 4), np.float32),
        classes=np.zeros(0, np.int64),
        crowd=np.zeros(0, bool),
        areas=np.zeros(0, np.float32),
        masks=label_map,
    )


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path, formats=readable_formats()) as image:
            return image.height, image.width
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for damaged files
        raise EffkerasError(f"{path}: not a label map that Pillow can read ({error}); replace it") from error
