"""COCO's JSON format for detection labels: reader and writer.

The format: https://cocodataset.org/#format-data. Boxes on disk are x, y, width, height in pixels.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from effkeras.data.formats import FORMATS, DataFormat, Evidence, ReadOptions
from effkeras.data.formats.coco_json import (
    AnnotationEntry,
    CategoryEntry,
    CocoFile,
    Ids,
    load,
    whole,
)
from effkeras.data.formats.coco_layout import LABEL_FILE, Images, find_sources
from effkeras.data.formats.label_maps import IMAGES, MASKS, map_files
from effkeras.data.images import image_size
from effkeras.data.records import Category, DetectionData, DetectionRecord, LabelledData
from effkeras.data.segmentations import Segmentation, mask_area, written
from effkeras.data.split_builder import Annotation, SplitBuilder
from effkeras.data.writing import copy_images
from effkeras.definitions.class_names import checked_class_name, class_key
from effkeras.support import files
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError

_FEW = 1000  # crowds that may be written for unknown regions; or as many as there are annotations


@FORMATS.register("coco")
class Coco(DataFormat):
    """COCO's JSON files: ours, COCO's own downloads, and exports of Roboflow, CVAT and Label Studio."""

    title = "COCO"
    layout = (
        "SPLIT/labels.json with SPLIT/images/, annotations/instances_SPLIT*.json with SPLIT*/ or images/, "
        "SPLIT/_annotations.coco.json beside the images, or a .json file"
    )
    evidence = Evidence.LABEL_FILE
    marks_unknown = True

    def splits(self, root: Path) -> list[str]:
        """The splits in `root` with COCO labels."""
        return sorted(find_sources(root))

    def read(self, root: Path, split: str, options: ReadOptions) -> DetectionData:
        """Calls `read_coco`."""
        return read_coco(root, split, skip_bad=options.skip_bad, masks=options.masks)

    def write(self, folder: Path, splits: Sequence[LabelledData]) -> None:
        """Writes SPLIT/labels.json and SPLIT/images/, with the ids of categories and images, and masks.

        COCO has no mark for regions that any class may lie in: they become a crowd of every class as long as
        these are at most 1,000 or as many as the annotations.
        """
        for data in splits:
            _write_split(folder / data.split, data)


def read_coco(root: Path, split: str, *, skip_bad: bool = False, masks: bool = False) -> DetectionData:
    """Reads the labels of one split; images without boxes are kept as background.

    Class indices follow the order of category ids. `skip_bad` leaves out bad annotations and images and lists
    them in `.skipped`. `masks` also reads each box's segmentation, or the PNG label maps in `masks/` beside
    `images/`. Raises EffkerasError for bad labels.
    """
    root = Path(root)
    sources = find_sources(root)
    source = sources[_choose(root, split, sources)]
    maps = _map_folder(source.folders[0]) if masks else None
    with_masks = masks and maps is None
    content = load(source.labels, masks=with_masks)
    categories, labels = _categories(source.labels, content)
    builder = SplitBuilder(root, split, ReadOptions(skip_bad=skip_bad, masks=masks), categories)
    reader = _Reader(source.labels, content, labels, builder)
    reader.add_images(Images(source.folders))
    data = builder.build()
    return _with_maps(data, maps) if maps else data


def write_coco(
    folder: Path,
    categories: Sequence[Category],
    records: Iterable[DetectionRecord],
    segmentations: Mapping[int, Sequence[Segmentation | None]] | None = None,
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


def _choose(root: Path, split: str, known: Iterable[str]) -> str:
    """The split of that name, or the one with a number after it: val2017 for val."""
    known = set(known)
    if split in known:
        return split
    fitting = [name for name in known if split and name.startswith(split) and name[len(split) :].isdigit()]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " or ".join(sorted(fitting))
        raise EffkerasError(f"{root}: split {split!r} could be {names}; give the whole name")
    raise Coco().missing_split(root, split)


def _map_folder(images: Path) -> Path | None:
    """The folder of PNG label maps beside a folder of images; None without one."""
    maps = images.parent / MASKS
    return maps if images.name == IMAGES and maps.is_dir() else None


def _with_maps(data: DetectionData, folder: Path) -> DetectionData:
    maps = map_files([record.path for record in data.records], folder)
    records = tuple(replace(record, masks=maps[record.path]) for record in data.records)
    return replace(data, records=records)


class _Labels:
    """The class name of each category id that annotations may use."""

    def __init__(self, ids: Ids, names: Mapping[int, str]) -> None:
        self._ids, self._names = ids, names

    def name(self, given: object) -> str:
        """The class of a `category_id`. Raises EffkerasError when the file does not define it."""
        number = self._ids.number(given)
        if number is None:
            raise _undefined("category_id", given)
        return self._names[number]


def _categories(path: Path, content: CocoFile[Any]) -> tuple[list[Category], _Labels]:
    """The classes in the order of their ids, and the class of each id."""
    ids = Ids(path, "category", content.categories)
    found = {}
    for position, (number, entry) in enumerate(zip(ids, content.categories, strict=True)):
        found[number] = Category(number, _category_name(path, position, entry))
    labels = _Labels(ids, {number: category.name for number, category in found.items()})
    group = _group(ids, content.categories)
    if group or len({class_key(one.name) for one in found.values()}) < len(found):
        used = {
            ids.number(entry.category_id)
            for entry in content.annotations
            if isinstance(entry, AnnotationEntry)
        }
        if group and 0 not in used:
            del found[0]
        _refuse_doubles(path, found.values(), used)
    return [found[number] for number in sorted(found)], labels


def _category_name(path: Path, position: int, entry: CategoryEntry) -> str:
    if not isinstance(entry.name, str):
        raise EffkerasError(f"{path}: category at position {position} has no 'name'; name it")
    try:
        return checked_class_name(entry.name)
    except EffkerasError as error:
        raise EffkerasError(f"{path}: category at position {position}: {error}") from error


def _group(ids: Iterable[int], entries: Sequence[CategoryEntry]) -> bool:
    """Whether category 0 is Roboflow's, which is no class but the supercategory of all others."""
    first = next((entry for number, entry in zip(ids, entries, strict=True) if number == 0), None)
    others = [entry for entry in entries if entry is not first]
    return first is not None and bool(others) and all(one.supercategory == first.name for one in others)


def _refuse_doubles(path: Path, categories: Collection[Category], used: Container[int | None]) -> None:
    """Raises EffkerasError for a category with annotations that has the name of another."""
    names = Counter(class_key(category.name) for category in categories)
    for category in categories:
        if category.id in used and names[class_key(category.name)] > 1:
            raise EffkerasError(
                f"{path}: two categories are named {category.name!r}; give each a name of its own, or make "
                "them one"
            )


class _Reader:
    """Hands the images and annotations of a file to a builder."""

    def __init__(self, path: Path, content: CocoFile[Any], labels: _Labels, builder: SplitBuilder) -> None:
        self._where, self._content = str(path), content
        self._labels, self._builder = labels, builder
        self._ids = Ids(path, "image", content.images)

    def add_images(self, images: Images) -> None:
        """Adds all images with their annotations."""
        own = self._by_image()
        for number, entry in zip(self._ids, self._content.images, strict=True):
            try:
                path = images.find(entry.name())
                size = entry.size() or image_size(path)
            except EffkerasError as error:
                self._builder.lose_image(f"{self._where}: image {entry.id}", str(error))
                continue
            annotations = (self._annotation(position, size) for position in own.get(number, ()))
            self._builder.add(path, size, annotations, where=self._where, image_id=number)

    def _by_image(self) -> dict[int, list[int]]:
        """The positions of annotations by image; those of no image are skipped."""
        found: dict[int, list[int]] = defaultdict(list)
        for position, entry in enumerate(self._content.annotations):
            if not isinstance(entry, AnnotationEntry):
                self._skip(position, f"{reprlib.repr(entry)} is not an object")
                continue
            number = self._ids.number(entry.image_id)
            if number is None:
                self._skip(position, str(_undefined("image_id", entry.image_id)))
            else:
                found[number].append(position)
        return found

    def _skip(self, position: int, why: str) -> None:
        self._builder.skip(f"{self._where}: {_name(position, self._content.annotations[position])}", why)

    def _annotation(self, position: int, size: tuple[int, int]) -> Annotation:
        entry = self._content.annotations[position]
        self._content.annotations[position] = None  # read once: its memory is free for the records
        corners, label, area, mask, problem = None, "", None, None, ""
        try:
            corners = entry.corners()
            label = self._labels.name(entry.category_id)
            area, mask = entry.stated_area(), entry.mask(size)
        except EffkerasError as error:
            problem = str(error)
        if area is None and mask is not None:
            area = mask_area(mask) or None
        crowd = entry.iscrowd == 1
        return Annotation(_name(position, entry), label, corners, problem, crowd, area, mask, entry.bbox)


def _name(position: int, entry: object) -> str:
    identity = entry.id if isinstance(entry, AnnotationEntry) else None
    if type(identity) is int:
        return f"annotation {identity}"
    known = isinstance(identity, str) or whole(identity) is not None
    return f"annotation {str(identity)[:40]}" if known else f"annotation at position {position}"


def _undefined(key: str, given: object) -> EffkerasError:
    shown = "missing" if given is None else f"{reprlib.repr(given)}, which the file does not define"
    return EffkerasError(f"its {key} is {shown}")


def _write_split(folder: Path, data: LabelledData) -> None:
    if not isinstance(data, DetectionData):
        raise EffkerasError(f"{data.root}: COCO holds boxes, and these images have classes only")
    if not any(len(record.boxes) for record in data.records):
        raise EffkerasError(
            f"{data.root}: the split {data.split!r} has no boxes, without which COCO is empty"
        )
    names = copy_images(data, folder / IMAGES)
    _copy_maps(data, names, folder / MASKS)
    records = list(_numbered(_with_regions(data)))
    masks = {record.image_id: _segmentations(record) for record in records if isinstance(record.masks, tuple)}
    named = [replace(record, path=Path(names[record.path])) for record in records]
    write_coco(folder, data.categories, named, {key: own for key, own in masks.items() if any(own)})


def _with_regions(data: DetectionData) -> Iterator[DetectionRecord]:
    """The records with their unknown regions as crowds of every class, if these are few enough."""
    count = sum(len(record.unknown) for record in data.records)
    crowds = count * len(data.categories)
    fits = crowds <= max(_FEW, sum(len(record.boxes) for record in data.records))
    if count:
        how = f"become {crowds} crowds, one for each class" if fits else "are left out"
        note_once(f"{data.root}: the {count} regions of bad annotations in {data.split} {how}")
    for record in data.records:
        if not fits or not len(record.unknown):
            yield record
            continue
        found = record.with_unknown_as_crowds(len(data.categories))
        added = (None,) * (len(found.boxes) - len(record.boxes))
        is_drawn = isinstance(record.masks, tuple) and record.masks
        yield replace(found, masks=(*record.masks, *added)) if is_drawn else found  # type: ignore[misc]


def _numbered(records: Iterable[DetectionRecord]) -> list[DetectionRecord]:
    """The records with unique image ids: their own where these are unique, else counted from 1 on."""
    records = list(records)
    if len({record.image_id for record in records}) == len(records):
        return records
    return [replace(record, image_id=number) for number, record in enumerate(records, 1)]


def _copy_maps(data: DetectionData, names: Mapping[Path, str], folder: Path) -> None:
    """Copies the PNG label maps of a split."""
    maps = {record.path: record.masks for record in data.records if isinstance(record.masks, Path)}
    if maps and data.map_classes is not None:
        raise EffkerasError(f"{data.root}: its label maps have values of other classes; convert the original")
    for path, source in maps.items():
        try:
            files.write_bytes(folder / f"{Path(names[path]).stem}.png", source.read_bytes())
        except OSError as error:
            raise EffkerasError(f"cannot read {source}: {error.strerror}") from error


def _segmentations(record: DetectionRecord) -> list[Segmentation | None]:
    masks = record.masks if isinstance(record.masks, tuple) else ()
    return [mask if mask is None else written(mask, record.size) for mask in masks]


def _image_entry(record: DetectionRecord) -> dict[str, Any]:
    height, width = record.size
    return {"id": record.image_id, "file_name": record.path.name, "height": height, "width": width}


def _annotation_entries(
    records: Sequence[DetectionRecord],
    categories: Sequence[Category],
    segmentations: Mapping[int, Sequence[Segmentation | None]],
) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for record in records:
        masks = segmentations.get(record.image_id) or [None] * len(record.boxes)
        for position, mask in enumerate(masks):
            entry = {"id": len(entries) + 1, **_annotation_entry(record, position, categories)}
            entries.append(entry if mask is None else {**entry, "segmentation": mask})
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
