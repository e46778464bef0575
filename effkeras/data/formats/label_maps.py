"""Images with a PNG label map each: the class of every pixel, and no boxes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from effkeras.data.formats import FORMATS, DataFormat, Evidence, ReadOptions
from effkeras.data.formats.class_folders import LABELS, read_labels
from effkeras.data.images import is_image, list_folder, subfolders
from effkeras.data.records import Category, DetectionData, DetectionRecord
from effkeras.support import files
from effkeras.support.errors import EffkerasError

IMAGES, MASKS = "images", "masks"


@FORMATS.register("label-maps")
class LabelMaps(DataFormat):
    """A PNG label map beside each image."""

    title = "label maps"
    layout = f"SPLIT/images/*.jpg with SPLIT/masks/*.png and {LABELS}"
    evidence = Evidence.FOLDER_NAMES

    def splits(self, root: Path) -> list[str]:
        """The folders in `root` that hold nothing but images and masks."""
        return [
            split.name
            for split in subfolders(root)
            if [path.name for path in subfolders(split)] == [IMAGES, MASKS]
        ]

    def read(self, root: Path, split: str, options: ReadOptions) -> DetectionData:
        """See `read_label_maps`; the maps are always read, and none is skipped."""
        return read_label_maps(root, split)


def read_label_maps(root: Path, split: str) -> DetectionData:
    """Reads one split: `root`/`split`/images with a PNG of the same name in `root`/`split`/masks.

    The values are classes by their line in `root`/labels.txt, from 0 for the first, which is the
    background; 255 is unknown. The records have no boxes. Raises EffkerasError for a missing split, class
    list or label map.
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
    """The label map of each image: the PNG of its name in `folder`; EffkerasError if one is missing."""
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
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:  # Pillow's readers raise whatever broken bytes make them trip over
        raise EffkerasError(f"{path}: not a label map that Pillow can read ({error}); replace it") from error
