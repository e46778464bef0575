"""COCO's JSON format for detection labels: reader and writer.

The format: https://cocodataset.org/#format-data. Boxes on disk are x, y, width, height in pixels.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from effkeras.data.checks import Corners, clipped_box, existing_images
from effkeras.data.formats import FORMATS, DataFormat, Evidence, ReadOptions
from effkeras.data.formats.label_maps import IMAGES, MASKS, map_files
from effkeras.data.images import subfolders
from effkeras.data.records import Category, DetectionData, DetectionRecord, Mask, Skipped
from effkeras.data.segmentations import Segmentation, parse_segmentation
from effkeras.support import files
from effkeras.support.errors import EffkerasError

LARGEST_SIDE = 100_000  # pixels; JPEG allows at most 65,535
LABEL_FILE = "labels.json"
_PREFIX = "instances_"
_FORMAT = "https://cocodataset.org/#format-data"


@FORMATS.register("coco")
class Coco(DataFormat):
    """COCO's JSON files, in a folder per split or in the layout of COCO's downloads."""

    title = "COCO"
    layout = "SPLIT/labels.json with SPLIT/images/, or annotations/instances_SPLIT*.json with SPLIT*/"
    evidence = Evidence.LABEL_FILE

    def splits(self, root: Path) -> list[str]:
        """The splits in `root` with COCO labels."""
        own = [path.name for path in subfolders(root) if (path / LABEL_FILE).is_file()]
        return sorted({*own, *(_official(root))})

    def read(self, root: Path, split: str, options: ReadOptions) -> DetectionData:
        """Calls `read_coco`."""
        return read_coco(root, split, skip_bad=options.skip_bad, masks=options.masks)


def read_coco(root: Path, split: str, *, skip_bad: bool = False, masks: bool = False) -> DetectionData:
    """Reads the labels of one split; images without boxes are kept as background.

    Class indices follow the order of category ids. Boxes up to 1 pixel outside their image are clipped.
    `skip_bad` skips bad annotations and lists them in `.skipped`. Missing image files are also listed there
    if they are at most 1 in 100. Any other error raises EffkerasError.
    `masks` also reads each box's segmentation, or the PNG label maps in `masks/` beside `images/`.
    """
    root = Path(root)
    labels, folder = _locate(root, split)
    content = _load(labels)
    categories = _categories(labels, content["categories"])
    images = _images(labels, content["images"])
    maps = _map_folder(folder) if masks else None
    parser = _Parser(images, categories, masks=masks and maps is None)
    boxes, skipped = _boxes(labels, content["annotations"], parser, skip_bad=skip_bad)
    names = {identity: image.name for identity, image in images.items()}
    present, missing = existing_images(labels, folder, names)
    label_maps = map_files(present.values(), maps) if maps else {}
    records = tuple(
        _record(path, identity, images[identity], boxes.get(identity, []), label_maps.get(path, ()))
        for identity, path in present.items()
    )
    return DetectionData(root, split, categories, records, (*skipped, *missing))


def write_coco(
    folder: Path,
    categories: Sequence[Category],
    records: Iterable[DetectionRecord],
    segmentations: Mapping[int, Sequence[Segmentation]] | None = None,
) -> None:
    """Writes `folder`/labels.json for images in `folder`/images.

    `segmentations` holds one mask per box by image id. Raises EffkerasError when the file cannot be written.
    """
    records = list(records)
    content = {
        "images": [_image_entry(record) for record in records],
        "annotations": _annotation_entries(records, categories, segmentations or {}),
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }
    files.write_text(folder / LABEL_FILE, json.dumps(content, separators=(",", ":")) + "\n")


def _locate(root: Path, split: str) -> tuple[Path, Path]:
    """The label file and the image folder of a split."""
    folder = files.inside(root, split)
    if (folder / LABEL_FILE).is_file():
        return folder / LABEL_FILE, folder / "images"
    official = _official(root)
    name = _choose(root, split, official)
    return official[name], _image_folder(root, name)


def _official(root: Path) -> dict[str, Path]:
    """The label files of COCO's own layout, by split: val2017 for instances_val2017.json."""
    found = sorted((root / "annotations").glob(f"{_PREFIX}*.json"))
    return {path.stem.removeprefix(_PREFIX): path for path in found if path.is_file()}


def _choose(root: Path, split: str, official: Mapping[str, Path]) -> str:
    if split in official:
        return split
    fitting = [name for name in official if split and name.startswith(split) and name[len(split) :].isdigit()]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise EffkerasError(f"{root}: split {split!r} could be {' or '.join(fitting)}; give the whole name")
    raise Coco().missing_split(root, split)


def _image_folder(root: Path, name: str) -> Path:
    nested = root / "images" / name
    return nested if nested.is_dir() else root / name


def _map_folder(images: Path) -> Path | None:
    """The folder of PNG label maps beside a folder of images; None without one."""
    maps = images.parent / MASKS
    return maps if images.name == IMAGES and maps.is_dir() else None


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}; check the file") from error
    except (ValueError, RecursionError) as error:
        raise EffkerasError(f"{path}: not valid JSON ({error}); write or download it again") from error
    _check_top_level(path, content)
    return content


def _check_top_level(path: Path, content: object) -> None:
    if not isinstance(content, dict):
        raise EffkerasError(f"{path}: holds a {type(content).__name__}, not COCO's object; see {_FORMAT}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise EffkerasError(f"{path}: {key!r} is missing or not a list; see {_FORMAT}")
        if not content[key]:
            raise EffkerasError(f"{path}: there are no {key} at all; write the labels again")


def _categories(path: Path, entries: list[Any]) -> tuple[Category, ...]:
    found: dict[int, Category] = {}
    for position, entry in enumerate(entries):
        category = _category(entry)
        if category is None:
            raise EffkerasError(f"{path}: category at position {position} needs a whole 'id' and a 'name'")
        if category.id in found:
            raise EffkerasError(f"{path}: category id {category.id} occurs twice; give each its own id")
        found[category.id] = category
    return tuple(found[identity] for identity in sorted(found))


def _category(entry: object) -> Category | None:
    if not isinstance(entry, dict):
        return None
    identity, name = _whole(entry.get("id")), entry.get("name")
    if identity is None or not isinstance(name, str) or not name.strip():
        return None
    return Category(identity, name.strip())


class _Image(NamedTuple):
    name: str
    height: int
    width: int


class _Box(NamedTuple):
    image_id: int
    label: int
    corners: Corners
    crowd: bool
    area: float
    mask: Mask | None


def _images(path: Path, entries: list[Any]) -> dict[int, _Image]:
    found: dict[int, _Image] = {}
    for position, entry in enumerate(entries):
        identity = _whole(entry.get("id")) if isinstance(entry, dict) else None
        if identity is None:
            raise EffkerasError(f"{path}: image at position {position} has no whole 'id'; give it one")
        if identity in found:
            raise EffkerasError(f"{path}: image id {identity} occurs twice; give each image its own id")
        found[identity] = _image(path, identity, entry)
    return found


def _image(path: Path, identity: int, entry: Mapping[str, Any]) -> _Image:
    name, height, width = entry.get("file_name"), _whole(entry.get("height")), _whole(entry.get("width"))
    if not isinstance(name, str) or not name:
        raise EffkerasError(f"{path}: image {identity} has no 'file_name'; name its image file")
    if not all(side is not None and 1 <= side <= LARGEST_SIDE for side in (height, width)):
        raise EffkerasError(f"{path}: image {identity} needs 'height' and 'width' in pixels; correct them")
    assert height is not None
    assert width is not None
    return _Image(name, height, width)


def _boxes(
    path: Path, entries: list[Any], parser: _Parser, *, skip_bad: bool
) -> tuple[dict[int, list[_Box]], list[Skipped]]:
    """The boxes by image id, and the skipped annotations."""
    found: dict[int, list[_Box]] = defaultdict(list)
    skipped: list[Skipped] = []
    for position, entry in enumerate(entries):
        try:
            box = parser.box(entry)
            found[box.image_id].append(box)
        except EffkerasError as error:
            what = _name(position, entry)
            if not skip_bad:
                way_out = "correct it, or leave bad annotations out with --skip-bad"
                raise EffkerasError(f"{path}: {what}: {error}; {way_out}") from error
            skipped.append(Skipped(what, str(error)))
    if not found:
        raise EffkerasError(f"{path}: none of its {len(entries)} annotations is usable; {skipped[0].why}")
    return found, skipped


def _name(position: int, entry: object) -> str:
    identity = _whole(entry.get("id")) if isinstance(entry, dict) else None
    return f"annotation at position {position}" if identity is None else f"annotation {identity}"


class _Parser:
    """Parses annotations, given the images and categories of the file and whether to read masks."""

    def __init__(self, images: Mapping[int, _Image], categories: Sequence[Category], *, masks: bool):
        self._images = images
        self._index = {category.id: position for position, category in enumerate(categories)}
        self._masks = masks

    def box(self, entry: object) -> _Box:
        """Parses one annotation. Raises EffkerasError with the reason when it is bad."""
        if not isinstance(entry, dict):
            raise EffkerasError(f"{reprlib.repr(entry)} is not an object")
        image_id = _known(entry, "image_id", self._images)
        category_id = _known(entry, "category_id", self._index)
        image = self._images[image_id]
        size = (image.height, image.width)
        corners = _corners(_numbers(entry.get("bbox")), f"image {image_id}", size)
        area = _annotated_area(entry.get("area"), corners)
        mask = parse_segmentation(entry.get("segmentation"), size) if self._masks else None
        return _Box(image_id, self._index[category_id], corners, entry.get("iscrowd") == 1, area, mask)


def _known(entry: Mapping[str, Any], key: str, known: Mapping[int, object]) -> int:
    identity = _whole(entry.get(key))
    if identity is None or identity not in known:
        given = reprlib.repr(entry[key]) if key in entry else "missing"
        raise EffkerasError(f"its {key} is {given}, which the file does not define")
    return identity


def _numbers(value: object) -> tuple[float, float, float, float]:
    if not isinstance(value, list) or len(value) != 4:
        raise EffkerasError(f"its bbox is {reprlib.repr(value)}, not x, y, width, height")
    left, top, width, height = (_number(item) for item in value)
    if not all(map(math.isfinite, (left, top, width, height))):
        raise EffkerasError(f"its bbox {reprlib.repr(value)} has a value that is not a finite number")
    return left, top, width, height


def _corners(box: tuple[float, float, float, float], image: str, size: tuple[int, int]) -> Corners:
    left, top, width, height = box
    return clipped_box((top, left, top + height, left + width), image, size, shown=box)


def _annotated_area(value: object, corners: Corners) -> float:
    if value is None:
        return (corners[2] - corners[0]) * (corners[3] - corners[1])
    area = _number(value)
    if not 0 < area < math.inf:
        raise EffkerasError(f"its area is {reprlib.repr(value)}, not a positive number")
    return area


def _whole(value: object) -> int | None:
    """The value if it is a whole number (some tools write 7.0), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def _number(value: object) -> float:
    """The value as a float; NaN if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _record(
    path: Path, identity: int, image: _Image, own: Sequence[_Box], label_map: Path | tuple[()]
) -> DetectionRecord:
    return DetectionRecord(
        path=path,
        image_id=identity,
        size=(image.height, image.width),
        boxes=np.array([box.corners for box in own], np.float32).reshape(-1, 4),
        classes=np.array([box.label for box in own], np.int64),
        crowd=np.array([box.crowd for box in own], bool),
        areas=np.array([box.area for box in own], np.float32),
        masks=label_map or tuple(box.mask for box in own),
    )


def _image_entry(record: DetectionRecord) -> dict[str, Any]:
    height, width = record.size
    return {"id": record.image_id, "file_name": record.path.name, "height": height, "width": width}


def _annotation_entries(
    records: Sequence[DetectionRecord],
    categories: Sequence[Category],
    segmentations: Mapping[int, Sequence[Segmentation]],
) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for record in records:
        masks = segmentations.get(record.image_id)
        for position in range(len(record.boxes)):
            entry = {"id": len(entries) + 1, **_annotation_entry(record, position, categories)}
            entries.append(entry if masks is None else {**entry, "segmentation": masks[position]})
    return entries


def _annotation_entry(
    record: DetectionRecord, position: int, categories: Sequence[Category]
) -> dict[str, Any]:
    top, left, bottom, right = record.boxes[position].tolist()
    return {
        "image_id": record.image_id,
        "category_id": categories[record.classes[position]].id,
        "bbox": [_short(value) for value in (left, top, right - left, bottom - top)],
        "area": _short(float(record.areas[position])),
        "iscrowd": int(record.crowd[position]),
    }


def _short(value: float) -> float:
    return int(value) if value.is_integer() else value
