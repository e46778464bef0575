"""Opens a data set by what lies in its folder, so that commands need not be told the format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from effkeras.data import coco, folder, label_maps
from effkeras.data.pictures import is_picture, list_folder, subfolders
from effkeras.data.records import LabelledData
from effkeras.errors import EffkerasError


def open_data(root: Path, split: str, *, skip_bad: bool = False, masks: bool = False) -> LabelledData:
    """Reads one split of the data set in `root`: COCO labels, PNG label maps, or one folder per class.

    `skip_bad` leaves bad annotations out, listed in `.skipped`, instead of stopping at the first. `masks`
    also reads the masks that COCO labels may have, for a model that segments.
    Raises EffkerasError when there is no such folder, format or split, or the labels are bad.
    """
    root = Path(root)
    check_folder(root)
    if coco.coco_splits(root):
        return coco.read_coco(root, split, skip_bad=skip_bad, masks=masks)
    if label_maps.label_map_splits(root):
        return label_maps.read_label_maps(root, split)
    if _only_images(root / split):
        labels = root / split / "labels.json"
        raise EffkerasError(f"{labels} is missing, and the pictures are not in a folder per class; write it")
    if folder.folder_splits(root):
        return folder.read_folder(root, split)
    raise EffkerasError(
        f"{root}: no data set that can be read; understood are COCO ({coco.LAYOUTS}), "
        f"label maps ({label_maps.LAYOUT}) and a folder per class ({folder.LAYOUT})"
    )


def check_folder(root: Path) -> None:
    """Raises EffkerasError when there is no such folder of data."""
    if not root.is_dir():
        raise EffkerasError(f"{root}: there is no such data folder; check the path")


def find_split(root: Path, *wanted: str) -> str | None:
    """The first of the wanted splits that `root` has; "val" also stands for COCO's "val2017"."""
    if not root.is_dir():
        return None
    there = coco.coco_splits(root) or label_maps.label_map_splits(root) or folder.folder_splits(root)
    return next((split for start in wanted for split in there if split.startswith(start)), None)


def spread(data: LabelledData, count: int) -> LabelledData:
    """At most `count` pictures from all over the data: class folders come sorted by class."""
    total = len(data.records)
    if total <= count:
        return data
    chosen = [data.records[index * total // count] for index in range(count)]
    return replace(data, records=tuple(chosen))  # type: ignore[arg-type]


def _only_images(split: Path) -> bool:
    """Whether a split looks like COCO without its labels, rather than like a class called "images"."""
    images = split / "images"
    return subfolders(split) == [images] and any(map(is_picture, list_folder(images)))
