"""Finds COCO's label files and their images in a folder.

The layouts: a folder per split with labels.json and images/, as we write them; annotations/instances_*.json
of COCO's downloads, CVAT and Datumaro; _annotations.coco.json beside the images, as Roboflow writes it;
result.json with images/ of Label Studio; and JSON files of any name with COCO's lists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras.data.formats import WHOLE
from effkeras.data.image_files import ImageFinder, first_bytes
from effkeras.data.images import list_folder, subfolders
from effkeras.support.errors import EffkerasError

LABEL_FILE = "labels.json"
ROBOFLOW_FILE = "_annotations.coco.json"
_ANNOTATIONS, _IMAGES = "annotations", "images"
_OFFICIAL = "instances_"
_UNSPLIT = "default"  # CVAT's name for a set without splits
_OTHER_TASKS = ("captions_", "image_info_", "panoptic_", "stuff_")  # COCO's files without boxes of objects
_SHOWN = 3  # folders in the error for a missing image
_MOST_FILES = 20  # of any name in one folder; more are one for each image, in another format
_HEAD_BYTES = 4096
_FIRST_KEY = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:info|licenses|images|annotations|categories)"\s*:')
_LIST = re.compile(rb'"(?:images|annotations|categories)"\s*:\s*\[')
_SPLIT = re.compile(r"(?:^|[^a-z])((?:train|val|test)[a-z0-9]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """The label file of a split, and the folders where its images may lie, the likeliest first."""

    labels: Path
    folders: tuple[Path, ...]


def find_sources(root: Path) -> dict[str, Source]:
    """The label files in a folder, or of a label file, by split; {} when there are none."""
    try:
        if root.is_file():
            return {_split_of_file(root): _of_file(root)} if _is_coco(root) else {}
        return {**_official(root), **_folders(root)} or _whole(root) or _by_content(root)
    except (EffkerasError, OSError):
        return {}  # a folder that cannot be listed


class Images:
    """Finds the images of a split in the first of several folders that has them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._finders = [ImageFinder(folder) for folder in folders if folder.is_dir()]

    def find(self, name: str) -> Path:
        """The file of that name. Raises EffkerasError like `ImageFinder.find`."""
        for finder in self._finders:
            found = finder.look_up(name)
            if found is not None:
                return found
        where = " or ".join(str(folder) for folder in self._folders[:_SHOWN])
        hint = next(filter(None, (finder.hint(name) for finder in self._finders)), "")
        raise EffkerasError(f"no image file {name!r} in {where}{hint}")


def _folders(root: Path) -> dict[str, Source]:
    """A folder for each split, as we and Roboflow write it."""
    found = {}
    for path in subfolders(root):
        if (path / LABEL_FILE).is_file():
            found[path.name] = Source(path / LABEL_FILE, (path / _IMAGES, path))
        elif (path / ROBOFLOW_FILE).is_file():
            found[path.name] = Source(path / ROBOFLOW_FILE, (path, path / _IMAGES))
    return found


def _official(root: Path) -> dict[str, Source]:
    """The layout of COCO's downloads: the split val2017 for instances_val2017.json."""
    paths = sorted((root / _ANNOTATIONS).glob(f"{_OFFICIAL}*.json"))
    found = {path.stem.removeprefix(_OFFICIAL): _of_file(path) for path in paths if path.is_file()}
    return {WHOLE: found[_UNSPLIT]} if list(found) == [_UNSPLIT] else found


def _whole(root: Path) -> dict[str, Source]:
    """A set without splits whose label file lies in the folder itself."""
    for name in (ROBOFLOW_FILE, LABEL_FILE, "result.json"):
        if (root / name).is_file() and _is_coco(root / name):
            return {WHOLE: Source(root / name, (root / _IMAGES, root))}
    return {}


def _by_content(root: Path) -> dict[str, Source]:
    """JSON files of any name in the folder or in annotations/."""
    for folder in (root, root / _ANNOTATIONS):
        paths = [one for one in list_folder(folder) if one.suffix == ".json"] if folder.is_dir() else []
        if len(paths) > _MOST_FILES:
            continue
        fitting = [one for one in paths if not one.name.startswith(_OTHER_TASKS) and _is_coco(one)]
        splits = [_split_of(one.stem) or "" for one in fitting]
        if len(fitting) == 1:
            return {splits[0] or WHOLE: _of_file(fitting[0])}
        if fitting:
            named = all(splits) and len(set(splits)) == len(splits)
            return {
                (split if named else one.stem): _of_file(one)
                for one, split in zip(fitting, splits, strict=True)
            }
    return {}


def _of_file(path: Path) -> Source:
    """The images of a label file: beside it, or beside its folder; in a folder of the split's name first."""
    own, above = path.parent, path.parent.parent
    is_apart = own.name.lower() == _ANNOTATIONS
    bases = (above, own) if is_apart else (own, above)
    names = dict.fromkeys((path.stem.removeprefix(_OFFICIAL), _split_of_file(path)))
    folders = [one for base in bases for name in names for one in (base / _IMAGES / name, base / name)]
    folders += [above / _IMAGES, above, own] if is_apart else [own / _IMAGES, own, above / _IMAGES]
    return Source(path, tuple(folders))


def _split_of_file(path: Path) -> str:
    """The split of a label file, by its name or that of its folder."""
    stem = path.stem.removeprefix(_OFFICIAL)
    if stem != path.stem:
        return WHOLE if stem == _UNSPLIT else stem
    folder = path.parent.name
    return _split_of(stem) or (folder if _split_of(folder) == folder else WHOLE)


def _split_of(name: str) -> str | None:
    """The part of a name that names a split, such as train in coco_train."""
    found = _SPLIT.search(name)
    return found[1] if found else None


def _is_coco(path: Path) -> bool:
    """Whether a JSON file begins like COCO's."""
    if path.suffix.lower() != ".json":
        return False
    head = first_bytes(path, _HEAD_BYTES)
    is_object = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return bool(_FIRST_KEY.match(head)) or (is_object and bool(_LIST.search(head)))
