"""YOLO: a text file for each image, with boxes or polygons in shares of its sides; reader and writer.

A line is `class cx cy width height` or `class x1 y1 x2 y2 x3 y3 ...`, with classes counted from 0
(https://docs.ultralytics.com/datasets/detect/ and /segment/). The box of a polygon is its extent.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from effkeras.data.formats import FORMATS, DataFormat, Evidence
from effkeras.data.formats.yolo_data_file import DATA_FILE, IMAGES, absolute
from effkeras.data.formats.yolo_layout import (
    LABELS,
    Layout,
    images_below,
    label_folder,
    read_layout,
    split_names,
)
from effkeras.data.image_files import ImageFinder
from effkeras.data.images import image_size
from effkeras.data.records import (
    Category,
    DetectionData,
    DetectionRecord,
    LabelledData,
    Polygons,
    ReadOptions,
)
from effkeras.data.segmentations import Outlines, extent, polygon_area
from effkeras.data.split_builder import Annotation, Corners, SplitBuilder
from effkeras.data.writing import copy_images, detection
from effkeras.support import files
from effkeras.support.console import note_once, track
from effkeras.support.errors import EffkerasError, first_line

_LARGEST_SHARE = 2.0  # larger values are pixels
_LARGEST_CLASS = 100_000
_READERS = 8  # threads that read label files and the sizes of images
_MANY = 10_000  # images whose reading takes long enough for a progress bar
_SHOWN = 60  # characters of a bad line


@FORMATS.register("yolo")
class Yolo(DataFormat):
    """YOLO's text files, with a data.yaml or in folders images and labels."""

    title = "YOLO"
    layout = f"{DATA_FILE}, or images/ (with a folder per split or without) and labels/*.txt"
    evidence = Evidence.LABEL_FILE

    def splits(self, root: Path) -> list[str]:
        """The splits of the data.yaml, else the folders of images with label files, else `WHOLE`."""
        return split_names(root)

    def read(self, root: Path, split: str, options: ReadOptions) -> DetectionData:
        """Reads a split. An image without a label file, or with an empty one, is background."""
        layout = read_layout(root)
        if split not in layout.splits:
            raise self.missing_split(root, split)
        return _Reader(root, split, layout, options).read()

    def write(self, folder: Path, splits: Sequence[LabelledData]) -> None:
        """Writes data.yaml, images/SPLIT and labels/SPLIT, and polygons where there are masks.

        The format has no crowds: they become ordinary boxes, which is noted.
        """
        detections = [detection(data, self.title) for data in splits]
        for data in detections:
            _write_split(folder, data)
        _write_data_file(folder, detections)


# reading


class _Labels(NamedTuple):
    """What lies on disk of an image: its size or the error, its label file if it has one, and the lines."""

    image: Path
    where: str
    size: tuple[int, int] | None
    has_file: bool
    text: str
    error: str


class _Line(NamedTuple):
    """A line of a label file: class number, and a box (cx, cy, w, h) or polygon (x, y...) in shares."""

    number: int
    label: int
    values: tuple[float, ...]
    problem: str


class _Reader:
    """Reads one split."""

    def __init__(self, root: Path, split: str, layout: Layout, options: ReadOptions) -> None:
        self.root, self.split, self.layout, self.options = root, split, layout, options
        self.lost: list[tuple[str, str]] = []
        self.repeated: Counter[str] = Counter()

    def read(self) -> DetectionData:
        loaded = self._load(dict.fromkeys(self._images()))
        parsed = [self._lines(one) for one in loaded]
        numbers = {line.label for lines in parsed for line in lines if not line.problem}
        names = self._names(numbers)
        categories = [Category(number, name) for number, name in names.items()]
        self._note(loaded)
        builder = SplitBuilder(self.root, self.split, self.options, categories)
        for where, why in self.lost:
            builder.lose_image(where, why)
        for one, lines in zip(loaded, parsed, strict=True):
            if one.size is None or one.error:
                builder.lose_image(one.where, one.error)
            else:
                annotations = [self._annotation(line, one.size, names) for line in lines]
                builder.add(one.image, one.size, annotations, where=one.where)
        return builder.build()

    def _images(self) -> Iterator[Path]:
        for source in self.layout.splits[self.split]:
            yield from self._listed(source) if source.is_file() else images_below(source)

    def _listed(self, source: Path) -> Iterator[Path]:
        """The images that a .txt lists, relative to its folder or that of the data set."""
        try:
            lines = source.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise EffkerasError(f"cannot read {source} ({error}); write one image per line") from error
        folders = dict.fromkeys((source.parent, self.layout.folder, source.parent.parent))
        finders = [ImageFinder(folder) for folder in folders]
        home = absolute(self.layout.folder)
        for number, line in enumerate(lines, 1):
            name = line.strip()
            if name.startswith(f"{home}/"):
                name = name.removeprefix(f"{home}/")
            try:
                if name:
                    found = (finder.look_up(name) for finder in finders)
                    yield next((path for path in found if path), None) or finders[0].find(name)
            except EffkerasError as error:
                self.lost.append((f"{source.name}: line {number}", str(error)))

    def _load(self, images: Iterable[Path]) -> list[_Labels]:
        images = list(images)
        finders: dict[Path, ImageFinder] = {}
        for folder in {image.parent for image in images}:
            finders[folder] = ImageFinder(label_folder(folder))
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda image: self._one(image, finders[image.parent]), images)
            shown = track(found, f"reading {self.split}", total=len(images)) if len(images) > _MANY else found
            return list(shown)

    def _one(self, image: Path, labels: ImageFinder) -> _Labels:
        """Reads an image's size and its label file."""
        where, path, text = self._shown(image), None, ""
        try:
            path = labels.look_up(f"{image.stem}.txt")
            if path is not None:
                where = self._shown(path)
                text = path.read_text("utf-8-sig")
            return _Labels(image, where, image_size(image), path is not None, text, "")
        except EffkerasError as error:
            return _Labels(image, where, None, path is not None, "", str(error))
        except (OSError, UnicodeDecodeError) as error:
            return _Labels(image, where, None, True, "", f"its labels cannot be read ({first_line(error)})")

    def _shown(self, path: Path) -> str:
        folder = self.layout.folder
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)

    def _lines(self, one: _Labels) -> list[_Line]:
        """The different lines of a label file."""
        found: dict[tuple[int, tuple[float, ...]], _Line] = {}
        bad: list[_Line] = []
        total = 0
        for number, text in enumerate(one.text.splitlines(), 1):
            if not text.strip():
                continue
            line = _parsed(number, text, self.layout.keypoints)
            if line.problem:
                bad.append(line)
                continue
            total += 1
            found.setdefault((line.label, line.values), line)
        if total > len(found):
            self.repeated[one.where] += total - len(found)
        return sorted((*found.values(), *bad))

    def _names(self, used: Iterable[int]) -> Mapping[int, str]:
        """The class names; numbers where no file has names."""
        if self.layout.names:
            return self.layout.names
        note_once(
            f"{self.root}: no file has class names, so classes are named by their numbers; add a classes.txt "
            f"with a name per line, or a {DATA_FILE} with 'names'"
        )
        return {number: str(number) for number in sorted(used)}

    def _annotation(self, line: _Line, size: tuple[int, int], names: Mapping[int, str]) -> Annotation:
        what, shown = f"line {line.number}", " ".join(f"{value:.6g}" for value in line.values[:4])
        if line.problem:
            return Annotation(what, "", None, line.problem)
        is_box = len(line.values) == 4
        points = None if is_box else np.array(line.values).reshape(-1, 2) * (size[1], size[0])
        corners = _box(line.values, size) if points is None else extent(points)
        label = names.get(line.label)
        if label is None:
            source = self.layout.names_file.name if self.layout.names_file else "the data set"
            problem = f"its class is {line.label}, and {source} has the classes {_range(names)}"
            return Annotation(what, "", corners, problem)
        area = None if points is None else polygon_area(points)
        has_mask = self.options.masks and points is not None
        mask = Polygons((np.asarray(points, np.float32),)) if has_mask else None
        return Annotation(what, label, corners, area=area or None, mask=mask, shown=shown if is_box else "")

    def _note(self, loaded: Sequence[_Labels]) -> None:
        """Notes images without label files and repeated lines. Raises EffkerasError if there is no label."""
        where = f"{self.root}: the split {self.split!r}"
        bare = [one for one in loaded if not one.has_file]
        if loaded and len(bare) == len(loaded):
            folder = self._shown(label_folder(bare[0].image.parent))
            raise EffkerasError(
                f"{where}: none of its {len(bare)} images has a label file; looked for "
                f"{Path(folder, bare[0].image.stem)}.txt"
            )
        if bare:
            note_once(
                f"{where}: {len(bare)} of {len(loaded)} images have no label file and count as background; "
                f"the first: {bare[0].where}"
            )
        if self.repeated:
            count, first = sum(self.repeated.values()), next(iter(self.repeated))
            note_once(f"{where}: {count} repeated lines count once; the first are in {first}")
        if self.layout.keypoints:
            note_once(f"{where}: keypoints are not read, only the boxes")


def _parsed(number: int, text: str, keypoints: int) -> _Line:
    try:
        tokens = text.split()
        label = _class_number(tokens[0])
        values = tuple(map(float, tokens[1:]))
    except ValueError as error:
        hint = "; separate values by spaces" if "," in text else ""
        return _Line(number, -1, (), f"{text.strip()[:_SHOWN]!r} is not a class and numbers ({error}){hint}")
    if keypoints and len(values) == 4 + keypoints:
        values = values[:4]
    return _Line(number, label, values, _problem(text, values))


def _class_number(text: str) -> int:
    value = float(text)  # some tools write 1.0
    if not value.is_integer() or not 0 <= value <= _LARGEST_CLASS:
        raise ValueError(f"the class is {text[:_SHOWN]!r}, not a whole number from 0 on")
    return int(value)


def _problem(text: str, values: Sequence[float]) -> str:
    """Why the values are neither a box nor a polygon; "" when they are."""
    shown = repr(text.strip()[:_SHOWN])
    if len(values) == 5:
        return f"{shown} has 6 columns: the last seems to be the confidence of a prediction; remove it"
    if len(values) < 4 or len(values) % 2:
        return f"{shown} has {len(values) + 1} columns; a box has 5, a polygon a class and pairs of x, y"
    if not all(map(math.isfinite, values)):
        return f"{shown} has a value that is not a finite number"
    if max(map(abs, values)) > _LARGEST_SHARE:
        return f"{shown} seems to be in pixels; divide x by the image's width and y by its height"
    return ""


def _box(values: Sequence[float], size: tuple[int, int]) -> Corners:
    x, y, width, height = values
    tall, wide = size
    return (y - height / 2) * tall, (x - width / 2) * wide, (y + height / 2) * tall, (x + width / 2) * wide


def _range(names: Mapping[int, str]) -> str:
    numbers = list(names)
    return f"{numbers[0]} to {numbers[-1]}" if numbers else "none"


# writing


def _write_split(folder: Path, data: DetectionData) -> None:
    names = copy_images(data, folder / IMAGES / data.split)
    labels = files.make_folder(folder / LABELS / data.split)
    masks = Outlines()
    for record in data.records:
        text = "".join(f"{_line(record, place, masks)}\n" for place in range(len(record.boxes)))
        files.write_text(labels / f"{Path(names[record.path]).stem}.txt", text)
    crowds = sum(int(record.crowd.sum()) for record in data.records)
    if crowds:
        where = f"{data.root}: the split {data.split!r}"
        note_once(f"{where}: YOLO has no mark for crowds: {crowds} are written as ordinary boxes")
    masks.note(data, Yolo.title)


def _line(record: DetectionRecord, place: int, masks: Outlines) -> str:
    height, width = record.size
    label, polygons = int(record.classes[place]), masks.of(record, place)
    if polygons:
        return _text(label, (_joined(polygons) / (width, height)).ravel().tolist())
    top, left, bottom, right = record.boxes[place].tolist()
    center = ((left + right) / 2 / width, (top + bottom) / 2 / height)
    return _text(label, (*center, (right - left) / width, (bottom - top) / height))


def _text(label: int, values: Iterable[float]) -> str:
    return " ".join([str(label), *(f"{value:.8f}".rstrip("0").rstrip(".") for value in values)])


def _joined(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """One polygon that covers the same pixels: pairs are joined by a line there and back."""
    whole = polygons[0]
    for other in polygons[1:]:
        there = int(np.abs(other - whole.mean(0)).sum(1).argmin())
        here = int(np.abs(whole - other[there]).sum(1).argmin())
        loop = np.concatenate([other[there:], other[: there + 1]])
        whole = np.concatenate([whole[: here + 1], loop, whole[here:]])
    return whole


def _write_data_file(folder: Path, splits: Sequence[DetectionData]) -> None:
    labels = splits[0].labels
    content: dict[str, object] = {}
    for data in splits:
        key = _key(data.split)
        others = {one.split for one in splits if one is not data} | set(content)
        content[data.split if key in others else key] = f"{IMAGES}/{data.split}"
    content |= {"nc": len(labels), "names": dict(enumerate(labels))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    files.write_text(folder / DATA_FILE, text)


def _key(split: str) -> str:
    """The split's name in data.yaml: YOLO's tools look for train, val and test, not val2017 or valid."""
    found = re.fullmatch(r"(train|val|test)(id|idation|[0-9]+)?", split)
    return found[1] if found else split
