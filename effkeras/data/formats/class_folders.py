"""Class folders: classification data with a folder per class; reader and writer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from effkeras.data.formats import FORMATS, WHOLE, DataFormat, Evidence, ReadOptions
from effkeras.data.image_files import relative_parts, unique_names
from effkeras.data.images import FolderImages, images_below, is_image, subfolders
from effkeras.data.records import ClassificationData, ClassificationRecord, LabelledData
from effkeras.data.writing import copy_images
from effkeras.definitions.class_names import checked_class_name, checked_class_names, class_key, natural_key
from effkeras.support import files
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError

LABELS = "labels.txt"
# Folders with these names hold the images and labels of a detection set; alone, they are not classes.
_IMAGES = frozenset({"images", "jpegimages", "imgs", "img"})
_NOT_CLASSES = _IMAGES | {"annotations", "labels", "masks", "imagesets"}


@FORMATS.register("class-folders")
class ClassFolders(DataFormat):
    """Classification data with a folder per class, in a folder per split where it is split."""

    title = "a folder per class"
    layout = "SPLIT/CLASS/ or CLASS/ with images, also in folders below"
    evidence = Evidence.ANY_FOLDERS

    def splits(self, root: Path) -> list[str]:
        """The folders in `root` that hold class folders with images; `WHOLE` if `root` itself does."""
        try:
            return [WHOLE] if _is_whole(root) else [one.name for one in subfolders(root) if _has_classes(one)]
        except EffkerasError:  # a folder that cannot be listed
            return []

    def read(self, root: Path, split: str, options: ReadOptions) -> ClassificationData:
        """Calls `read_folder`; `options` have no effect, because there are no annotations and no masks."""
        return read_folder(root, split)

    def write(self, folder: Path, splits: Sequence[LabelledData]) -> None:
        """Writes SPLIT/CLASS/ with the images of each class, and labels.txt with the order of the classes.

        Raises EffkerasError for images with boxes, and for a class name that cannot name a folder.
        """
        for data in splits:
            if not isinstance(data, ClassificationData):
                raise EffkerasError(f"{data.root}: class folders hold one class an image, and not boxes")
            _write_split(folder / data.split, data)
        _write_labels(folder, splits[0].labels)


def read_folder(root: Path, split: str) -> ClassificationData:
    """Reads one split: the images in `root`/`split`/CLASS and below; hidden files and folders are ignored.

    A set that is not split has `root`/CLASS, and the one split `WHOLE`. The classes are the lines of
    `root`/labels.txt if it exists, else the class folders of all splits in natural order (2 before 10). Files
    that are no images are counted in a note. Raises EffkerasError for a missing split, a split without class
    folders, a class folder without images, or one that labels.txt does not name.
    """
    root = Path(root)
    folders = _class_folders(root, split)
    labels = _labels(root)
    index = {class_key(label): position for position, label in enumerate(labels)}
    records: list[ClassificationRecord] = []
    others: list[Path] = []
    for folder in folders:
        if class_key(folder.name) not in index:
            raise EffkerasError(f"{folder}: {root / LABELS} does not name this class; add it there")
        found = images_below(folder)
        if not found.images:
            there = f", with {found.left_out}" if found.others else ""
            raise EffkerasError(f"{folder}: a class without images{there}; add some, or remove the folder")
        records += [ClassificationRecord(path, index[class_key(folder.name)]) for path in found.images]
        others += found.others
    if others:
        text = FolderImages((), tuple(others)).left_out
        note_once(f"{root}: the split {split!r}: left out {text}; the first: {others[0].relative_to(root)}")
    return ClassificationData(root, split, labels, tuple(records))


def write_folder(
    root: Path, split: str, labels: Sequence[str], images: Iterable[tuple[str, np.ndarray]]
) -> None:
    """Writes (label, uint8 (height, width, 3)) pairs as numbered PNG files, and `root`/labels.txt.

    Raises EffkerasError for labels that cannot name a folder and for files that cannot be written.
    """
    for label in labels:
        _check_label(label)
    root = Path(root)
    for position, (label, pixels) in enumerate(images):
        if label not in labels:
            raise EffkerasError(f"image {position}: its label {label!r} is unknown; add it to the labels")
        with files.whole_file(files.inside(root, split) / label / f"{position:06d}.png") as path:
            Image.fromarray(pixels).save(path)
    _write_labels(root, labels)


def _write_labels(root: Path, labels: Iterable[str]) -> None:
    files.write_text(root / LABELS, "".join(f"{label}\n" for label in labels))


def _write_split(folder: Path, data: ClassificationData) -> None:
    by_class: dict[str, list[Path]] = {}
    for record in data.records:
        by_class.setdefault(data.labels[record.label], []).append(record.path)
    names: dict[Path, str] = {}
    for label, paths in by_class.items():
        _check_label(label)
        files.make_folder(folder / label)
        names |= {path: f"{label}/{name}" for path, name in unique_names(paths).items()}
    copy_images(data, folder, names)


def _is_whole(root: Path) -> bool:
    """Whether the folders in `root` are classes, not splits: some contain images themselves.

    Folders with the names of splits are none, if they contain class folders or if there are no others.
    """
    folders = subfolders(root)
    named = [one for one in folders if re.match("train|val|test|dev|eval", one.name.lower())]
    if any(map(_has_classes, named)):
        return False
    if any(_has_images(one, below=False) for one in folders if one not in named):
        return True
    return any(map(_has_classes, folders)) and _are_no_classes(folders)


def _has_classes(folder: Path) -> bool:
    """Whether a folder contains folders with images."""
    return any(_has_images(one) for one in subfolders(folder))


def _are_no_classes(folders: Sequence[Path]) -> bool:
    """Whether the folders with images are those of a detection set."""
    names = {one.name.lower() for one in folders if one.name.lower() in _IMAGES or _has_images(one)}
    return bool(names & _IMAGES) and names <= _NOT_CLASSES


def _class_folders(root: Path, split: str) -> list[Path]:
    relative_parts(split)  # refuses ".." and absolute names
    whole = _is_whole(root)
    path = root if whole else root / split
    if (whole and split != WHOLE) or not path.is_dir():
        raise ClassFolders().missing_split(root, split)
    folders = subfolders(path)
    if not folders:
        raise EffkerasError(f"{path}: no class folders; the layout is {ClassFolders.layout}")
    if _are_no_classes(folders):
        names = " and ".join(repr(one.name) for one in folders)
        what = f"its only folder {names} does" if len(folders) == 1 else f"its folders {names} do"
        raise EffkerasError(
            f"{path}: {what} not look like a class, and {path / 'labels.json'} "
            "is missing; write the labels, or a folder per class"
        )
    return sorted(folders, key=lambda folder: natural_key(folder.name))


def _has_images(folder: Path, *, below: bool = True) -> bool:
    """Whether there are images in a folder, or in those below it; fast where the first files are images."""
    waiting, seen = [folder], set()
    while waiting:
        current = waiting.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                for one in entries:
                    if one.name.startswith("."):
                        continue
                    if one.is_dir():
                        waiting += [Path(one.path)] if below else []
                    elif is_image(Path(one.name)):
                        return True
        except OSError:
            continue
    return False


def _labels(root: Path) -> tuple[str, ...]:
    if (root / LABELS).is_file():
        return read_labels(root / LABELS)
    places = [root] if _is_whole(root) else [root / split for split in ClassFolders().splits(root)]
    names = {class_key(one.name): one.name for place in places for one in subfolders(place)}
    try:
        return tuple(sorted(map(checked_class_name, names.values()), key=natural_key))
    except EffkerasError as error:
        raise EffkerasError(f"{root}: {error}") from error


def read_labels(path: Path) -> tuple[str, ...]:
    """The class names in a labels.txt, one per line; EffkerasError for a bad file or an unfit name."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EffkerasError(
            f"cannot read {path} ({error}); write one class name per line, in UTF-8"
        ) from error
    try:
        return checked_class_names(line for line in lines if line.strip())
    except EffkerasError as error:
        raise EffkerasError(f"{path}: {error}") from error


def _check_label(label: str) -> None:
    if (
        not label
        or label.startswith(".")
        or label != label.strip()
        or re.search(r'[/\\:*?"<>|\x00-\x1f]', label)
    ):
        raise EffkerasError(f"the label {label!r} cannot name a folder; use letters, digits, '-' and '_'")
