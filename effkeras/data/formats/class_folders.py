"""Class folders: classification data with a folder per class; reader and writer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from effkeras.data.formats import FORMATS, DataFormat, Evidence, ReadOptions
from effkeras.data.images import is_image, list_folder, subfolders
from effkeras.data.records import ClassificationData, ClassificationRecord
from effkeras.definitions.class_names import natural_key
from effkeras.support import files
from effkeras.support.errors import EffkerasError

LABELS = "labels.txt"


@FORMATS.register("class-folders")
class ClassFolders(DataFormat):
    """Classification data with a folder per split and class."""

    title = "a folder per class"
    layout = "SPLIT/CLASS/*.png, .jpg, .jpeg, .bmp or .webp"
    evidence = Evidence.ANY_FOLDERS

    def splits(self, root: Path) -> list[str]:
        """The folders in `root` that hold class folders with images."""
        return [
            split.name for split in subfolders(root) if any(_has_images(path) for path in subfolders(split))
        ]

    def read(self, root: Path, split: str, options: ReadOptions) -> ClassificationData:
        """Calls `read_folder`; `options` have no effect, because there are no annotations and no masks."""
        return read_folder(root, split)


def read_folder(root: Path, split: str) -> ClassificationData:
    """Reads one split: `root`/`split`/<class>/<images>; hidden and other files are ignored.

    The classes are the lines of `root`/labels.txt if it exists, else the class folders of all splits in
    natural order (2 before 10). Raises EffkerasError for a missing split, a split without class folders, a
    class folder without images, or one that labels.txt does not name.
    """
    root = Path(root)
    folders = _class_folders(root, split)
    labels = _labels(root)
    index = {label: position for position, label in enumerate(labels)}
    records: list[ClassificationRecord] = []
    for folder in folders:
        if folder.name not in index:
            raise EffkerasError(f"{folder}: {root / LABELS} does not name this class; add it there")
        records += [ClassificationRecord(path, index[folder.name]) for path in _images(folder)]
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
    files.write_text(root / LABELS, "".join(f"{label}\n" for label in labels))


def _class_folders(root: Path, split: str) -> list[Path]:
    path = files.inside(root, split)
    if not path.is_dir():
        raise ClassFolders().missing_split(root, split)
    folders = subfolders(path)
    if not folders:
        raise EffkerasError(f"{path}: no class folders; the layout is {ClassFolders.layout}")
    if [folder.name for folder in folders] == ["images"]:
        raise EffkerasError(
            f"{path}: its only folder 'images' does not look like a class, and {path / 'labels.json'} "
            "is missing; write the labels, or a folder per class"
        )
    return sorted(folders, key=lambda folder: natural_key(folder.name))


def _images(folder: Path) -> list[Path]:
    found = [path for path in list_folder(folder) if is_image(path)]
    if not found:
        raise EffkerasError(f"{folder}: a class without images; add some, or remove the folder")
    return found


def _has_images(folder: Path) -> bool:
    try:
        return any(is_image(path) for path in folder.iterdir())
    except OSError:
        return False


def _labels(root: Path) -> tuple[str, ...]:
    if (root / LABELS).is_file():
        return read_labels(root / LABELS)
    splits = [root / split for split in ClassFolders().splits(root)]
    return tuple(sorted({path.name for split in splits for path in subfolders(split)}, key=natural_key))


def read_labels(path: Path) -> tuple[str, ...]:
    """The class names in a labels.txt, one per line; EffkerasError for a bad file or a repeated name."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise EffkerasError(
            f"cannot read {path} ({error}); write one class name per line, in UTF-8"
        ) from error
    labels = tuple(line for line in lines if line)
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise EffkerasError(f"{path}: {twice[0]!r} occurs twice; name each class once")
    return labels


def _check_label(label: str) -> None:
    if (
        not label
        or label.startswith(".")
        or label != label.strip()
        or re.search(r'[/\\:*?"<>|\x00-\x1f]', label)
    ):
        raise EffkerasError(f"the label {label!r} cannot name a folder; use letters, digits, '-' and '_'")
