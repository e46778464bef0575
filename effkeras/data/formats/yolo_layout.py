"""Where the files of a YOLO data set lie: its splits, and its classes.

A `data.yaml` names them; without one, they follow from the names of folders, as labelImg, Label Studio and
CVAT write them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from effkeras.data.formats import WHOLE
from effkeras.data.formats.yolo_data_file import (
    IMAGES,
    SPLITS,
    checked_names,
    data_files,
    read_data_file,
    read_text,
)
from effkeras.data.images import is_image, subfolders
from effkeras.support.errors import EffkerasError

LABELS = "labels"
_CLASS_FILES = ("classes.txt", "obj.names")
_TRIED = 1000  # label files that may be empty before one has a line
_LONGEST_LINE = 64 * 1024  # bytes
_LINE = re.compile(rb"\s*\d+(\.0*)?(\s+[-+.\deE]+){4,}\s*$")


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a YOLO data set.

    `splits` gives each split's folders and lists (.txt) of images; `names` the class names by class number,
    None where no file lists them; `names_file` is that file. Lines of labels may have `keypoints` values
    after the box.
    """

    folder: Path
    splits: Mapping[str, tuple[Path, ...]]
    names: Mapping[int, str] | None
    names_file: Path | None
    keypoints: int = 0


def split_names(root: Path) -> list[str]:
    """The names of the splits in a folder or data.yaml; [] when it is no YOLO data set. Never raises."""
    try:
        if not data_files(root):
            return sorted(_splits_by_folder(root))
    except (OSError, EffkerasError):
        return []
    try:
        return sorted(read_layout(root).splits)
    except EffkerasError:
        return [WHOLE]  # it is a YOLO data set, and reading it says what is wrong


def read_layout(root: Path) -> Layout:
    """The files of the data set in `root`, a folder or a data.yaml.

    Raises EffkerasError for a bad data.yaml or list of classes, and when no split is there.
    """
    found = data_files(root)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise EffkerasError(f"{root}: holds several YOLO data sets ({names}); give the file of one")
    if found:
        stated = read_data_file(found[0])
        return Layout(found[0].parent, stated.splits, stated.names, found[0], stated.keypoints)
    listed, source = _listed_names(_class_files(root))
    return Layout(root, _splits_by_folder(root), listed, source)


def images_below(folder: Path) -> Iterator[Path]:
    """The images in a folder and its sub-folders, sorted; links are followed, hidden folders are not."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (path for name in sorted(files) if is_image(path := Path(place, name)))


def label_folder(images: Path) -> Path:
    """The folder of the label files for a folder of images.

    It is that with the last `images` in its path replaced by `labels`, where this exists, else the folder
    itself.
    """
    parts = images.parts
    for place in range(len(parts) - 1, -1, -1):
        if parts[place].lower() == IMAGES:
            for name in (LABELS, LABELS.capitalize()):
                folder = Path(*parts[:place], name, *parts[place + 1 :])
                if folder.is_dir():
                    return folder
            break
    return images


def _splits_by_folder(root: Path) -> dict[str, tuple[Path, ...]]:
    if not root.is_dir():
        return {}
    images = root / IMAGES
    if images.is_dir() and _has_labels(images):
        named = subfolders(images)
        if any(one.name.startswith(SPLITS) for one in named):
            return {one.name: (one,) for one in named}
        return {WHOLE: (images,)}
    if _has_labels(root):
        return {WHOLE: (root,)}
    places = {one.name: one / IMAGES if (one / IMAGES).is_dir() else one for one in subfolders(root)}
    return {name: (place,) for name, place in places.items() if name != LABELS and _has_labels(place)}


def _has_labels(images: Path) -> bool:
    """Whether the first label files for a folder of images, or for its sub-folders, are YOLO's."""
    labels = label_folder(images)
    if labels == images:
        return _has_lines(images, with_images=True)
    return any(_has_lines(folder) for folder in (labels, *subfolders(labels)))


def _has_lines(folder: Path, *, with_images: bool = False) -> bool:
    """Whether the first label file with a line has YOLO's; `with_images`: among those named like an image."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    labels = sorted(
        name for name in names if name.endswith(".txt") and name not in _CLASS_FILES and name[0] != "."
    )
    if with_images and labels:
        stems = {Path(name).stem for name in names if is_image(Path(name))}
        labels = [name for name in labels if name.removesuffix(".txt") in stems]
    for name in labels[:_TRIED]:
        with (folder / name).open("rb") as file:
            line = file.readline(_LONGEST_LINE)
        if line.strip():
            return _LINE.match(line.removeprefix(b"\xef\xbb\xbf")) is not None
    return False


def _class_files(root: Path) -> list[Path]:
    folders = [root, root / LABELS, root / IMAGES, *subfolders(root / LABELS)]
    for one in subfolders(root):
        folders += [one, one / LABELS]
    files = [folder / name for folder in dict.fromkeys(folders) for name in _CLASS_FILES]
    return [path for path in files if path.is_file()]


def _listed_names(paths: Iterable[Path]) -> tuple[dict[int, str] | None, Path | None]:
    """The classes in files with a name on each line; several files must agree."""
    found: dict[int, str] | None = None
    source: Path | None = None
    for path in paths:
        lines = [line.strip() for line in read_text(path).splitlines()]
        names = checked_names(path, {number: name for number, name in enumerate(lines) if name})
        if found is not None and names != found:
            raise EffkerasError(f"{source} and {path} list different classes; keep one of them")
        found, source = names, path
    return found, source
