"""LabelMe: a JSON file for each image, with rectangles, polygons, circles and masks; reader and writer.

The format: https://github.com/wkentaro/labelme. Points are x, y in pixels. Shapes with the same group_id and
label are the parts of one object.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from effkeras.data.formats import FORMATS, WHOLE, DataFormat, Evidence
from effkeras.data.formats.labelme_shapes import CROWD, read_objects, stated_size
from effkeras.data.image_files import ImageFinder
from effkeras.data.images import SUFFIXES, is_image, list_folder, subfolders
from effkeras.data.records import Category, DetectionData, DetectionRecord, LabelledData, ReadOptions
from effkeras.data.segmentations import Outlines
from effkeras.data.split_builder import SplitBuilder
from effkeras.data.writing import copy_images, detection, short
from effkeras.definitions.class_names import checked_class_names, class_key
from effkeras.support import files
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError, first_line

_VERSION = "5.5.0"  # of labelme, whose files these are like
_LABELS = "labels.txt"  # the class names, as `labelme --labels` takes them
_NO_CLASSES = ("__ignore__", "_background_")  # lines of labels.txt that labelme's examples start with
_SPLITS = ("train", "val", "test")  # the beginnings of usual names of splits
_HEADER_BYTES = 4096  # of a JSON file, in which a key of LabelMe must appear
_TRIED = 5  # JSON files, of which the first may be something else


@FORMATS.register("labelme")
class LabelMe(DataFormat):
    """LabelMe's JSON files beside the images, in a folder per split or in one folder."""

    title = "LabelMe"
    layout = "SPLIT/*.json beside the images, or *.json beside the images"
    evidence = Evidence.LABEL_FILE

    def splits(self, root: Path) -> list[str]:
        """The folders with LabelMe's files, or `WHOLE` where the files lie in `root` itself."""
        return sorted(_places(root))

    def read(self, root: Path, split: str, options: ReadOptions) -> DetectionData:
        """Reads a split. A shape with the flag `crowd` is a crowd; an image without JSON is left out."""
        folder = _places(root).get(split)
        if folder is None:
            raise self.missing_split(root, split)
        return _read(root, split, folder, options)

    def write(self, folder: Path, splits: Sequence[LabelledData]) -> None:
        """Writes SPLIT/ with images and JSON files, and labels.txt; masks become polygons."""
        for data in splits:
            _write_split(folder, detection(data, self.title))
        if splits:
            files.write_text(folder / _LABELS, "".join(f"{name}\n" for name in splits[0].labels))


# reading


def _places(root: Path) -> dict[str, Path]:
    """The folder of each split; a single folder that is not named as a split is the whole set."""
    if _has_labelme(root):
        return {WHOLE: root}
    try:
        found = [one for one in subfolders(root) if _has_labelme(one)]
    except EffkerasError:
        return {}
    if len(found) == 1 and not found[0].name.startswith(_SPLITS):
        return {WHOLE: found[0]}
    return {one.name: one for one in found}


def _has_labelme(folder: Path) -> bool:
    """Whether one of the first JSON files in a folder is LabelMe's."""
    try:
        if not folder.is_dir():
            return False
        return any(_is_labelme(path) for path in _json_files(folder)[:_TRIED])
    except (OSError, EffkerasError):
        return False


def _json_files(folder: Path) -> list[Path]:
    return [
        path
        for path in list_folder(folder)
        if path.suffix.lower() == ".json" and not path.name.startswith(".")
    ]


def _is_labelme(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    return any(key in head for key in (b'"shapes"', b'"imageData"', b'"imagePath"'))


def _read(root: Path, split: str, folder: Path, options: ReadOptions) -> DetectionData:
    builder = SplitBuilder(root, split, options, _categories(root))
    finders = [ImageFinder(place, sorted(SUFFIXES)) for place in _image_folders(folder)]
    used: set[Path] = set()
    others: list[Path] = []
    renamed: list[str] = []
    for path in _json_files(folder):
        where = str(path.relative_to(root))
        try:
            content = _load(path)
            if content is None:
                others.append(path)
                continue
            image = _image(path, _stated_name(content), finders)
            if image in used:
                raise EffkerasError(f"{image.name} has another JSON file already; keep one of them")
            objects = read_objects(content, masks=options.masks)
        except EffkerasError as error:
            builder.lose_image(where, str(error))
            continue
        if _differs(content, image):
            renamed.append(f"{where} names {_stated_name(content)!r}, and {image.name} is used")
        used.add(image)
        builder.add(image, stated_size(content), objects, where=where)
    _note(f"{root}: the split {split!r}", used, others, renamed)
    return builder.build()


def _image_folders(folder: Path) -> list[Path]:
    candidates = (folder, folder / "images", folder.parent / "images", folder.parent / "images" / folder.name)
    return [folder, *(one for one in candidates[1:] if one.is_dir())]


def _note(where: str, used: set[Path], others: Sequence[Path], renamed: Sequence[str]) -> None:
    """Notes what was not used: images without JSON files, other JSON files, and stated names."""
    bare = [
        path
        for folder in sorted({image.parent for image in used})
        for path in list_folder(folder)
        if is_image(path) and path not in used
    ]
    if bare:
        note_once(
            f"{where}: {len(bare)} images without a JSON file are left out; the first: {bare[0].name} (an "
            "image without objects needs a file without shapes)"
        )
    if others:
        note_once(f"{where}: {len(others)} JSON files are not LabelMe's; the first: {others[0].name}")
    if renamed:
        note_once(
            f"{where}: {len(renamed)} files name another image than that with their own name, which is used; "
            f"the first: {renamed[0]}"
        )


def _categories(root: Path) -> list[Category] | None:
    """The classes in labels.txt; None without one."""
    path = root / _LABELS
    if not path.is_file():
        return None
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
        names = checked_class_names(line for line in lines if line and line not in _NO_CLASSES)
    except (OSError, UnicodeDecodeError, EffkerasError) as error:
        raise EffkerasError(f"{path}: {first_line(error)}") from error
    return [Category(number, name) for number, name in enumerate(names, 1)] or None


def _load(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None when it is valid and not LabelMe's."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise EffkerasError(f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise EffkerasError(f"not valid JSON ({first_line(error)})") from error
    if not isinstance(content, dict) or not {"shapes", "imagePath"} & set(content):
        return None
    return content


def _stated_name(content: Mapping[str, Any]) -> str:
    """The imagePath with slashes; "" without one."""
    stated = content.get("imagePath")
    return stated.strip().replace("\\", "/") if isinstance(stated, str) else ""


def _image(path: Path, stated: str, finders: Sequence[ImageFinder]) -> Path:
    """The image of the JSON file's name, which tools keep when they copy; else the one that it names.

    labelme writes the way from the JSON file to the image, such as ../images/a.jpg: then the name counts.
    """
    name = stated.rsplit("/", 1)[-1]
    own = [name] if Path(name).stem == path.stem else []
    for one in (*own, path.stem, stated, name):
        found = _first(finders, one)
        if found is not None:
            return found
    return finders[0].find(name or path.stem)


def _differs(content: Mapping[str, Any], image: Path) -> bool:
    stated = Path(_stated_name(content)).stem
    return bool(stated) and class_key(stated).casefold() != class_key(image.stem).casefold()


def _first(finders: Iterable[ImageFinder], name: str) -> Path | None:
    """The image of that name; None where there is none, or the name leads elsewhere."""
    with contextlib.suppress(EffkerasError):
        found = (finder.look_up(name) for finder in finders)
        return next((path for path in found if path is not None and is_image(path)), None)
    return None


# writing


def _write_split(folder: Path, data: DetectionData) -> None:
    names, masks = copy_images(data, folder / data.split), Outlines()
    for record in data.records:
        height, width = record.size
        content: dict[str, object] = {
            "version": _VERSION,
            "flags": {},
            "shapes": _written(record, data.labels, masks),
            "imagePath": names[record.path],
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        text = json.dumps(content, ensure_ascii=False, indent=1)
        files.write_text(folder / data.split / f"{Path(names[record.path]).stem}.json", f"{text}\n")
    masks.note(data, LabelMe.title)


def _written(record: DetectionRecord, labels: Sequence[str], masks: Outlines) -> list[dict[str, object]]:
    """The shapes of an image: a rectangle for each box, polygons for each mask."""
    shapes: list[dict[str, object]] = []
    for place, box in enumerate(record.boxes):
        polygons = masks.of(record, place)
        kind = "polygon" if polygons else "rectangle"
        parts = polygons or [box[[1, 0, 3, 2]].reshape(2, 2)]
        shapes += [
            {
                "label": labels[record.classes[place]],
                "points": [[short(x), short(y)] for x, y in points.tolist()],
                "group_id": place + 1 if len(parts) > 1 else None,
                "description": "",
                "shape_type": kind,
                "flags": {CROWD: True} if record.crowd[place] else {},
                "mask": None,
            }
            for points in parts
        ]
    return shapes
