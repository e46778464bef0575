"""Reads the boxes of one split from a table of labels in a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from effkeras.data.formats.csv.tables import (
    COLUMNS,
    CORNERS,
    Layout,
    Table,
    filled,
    image_search,
    listed_labels,
    split_named,
)
from effkeras.data.images import image_size
from effkeras.data.records import Category, DetectionData, ReadOptions, Skipped
from effkeras.data.split_builder import Annotation, Corners, SplitBuilder
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError

_LARGE = 64  # pixels; in a larger image, not all objects of a data set lie in the first pixel
_YES = frozenset({"1", "1.0", "true", "yes"})
_EMPTY = frozenset({"", "0", "0.0"})


_Box = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in the table's unit

# One row: its line, class, box, what is wrong with it, and whether it is a crowd. Plain tuples, because
# named ones take six times as long to make, and tables have a million rows.
_Object = tuple[int, str, _Box | None, str, bool]


class _Image:
    """The rows about one image: its split, stated width and height, objects, and what is wrong with it."""

    __slots__ = ("line", "objects", "problem", "size", "split")

    def __init__(self, line: int, split: str, size: tuple[str, str]) -> None:
        self.line, self.split, self.size = line, split, size
        self.objects: list[_Object] = []
        self.problem = ""


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a row has what: the positions of cells, and functions that take several."""

    image: int
    label: int
    split: int | None
    crowd: int | None
    confidence: int | None
    size: Callable[[list[str]], tuple[str, str]]
    box: Callable[[list[str]], Sequence[str]]
    parse: Callable[[Sequence[str]], tuple[_Box | None, str]]

    @staticmethod
    def of(layout: Layout) -> _Places:
        """The places of a layout."""
        columns, start = layout.columns, layout.vertices
        has_size = {"width", "height"} <= set(columns)
        by_name = start is None
        return _Places(
            image=columns["image"],
            label=columns["label"],
            split=columns.get("split"),
            crowd=columns.get("crowd"),
            # Only Open Images lists what is not in the image.
            confidence=columns.get("confidence") if layout.has_ids else None,
            size=itemgetter(columns["width"], columns["height"]) if has_size else lambda _: ("", ""),
            box=itemgetter(*(columns[one] for one in CORNERS)) if by_name else itemgetter(slice(start, None)),
            parse=_corners if by_name else _around,
        )


class BoxReader:
    """Reads the boxes of one split.

    Args:
        root: the data set.
        split: the split.
        options: how to read.
        table: the table; its layout has boxes.
    """

    def __init__(self, root: Path, split: str, options: ReadOptions, table: Table) -> None:
        self._root, self._split, self._options, self._table = root, split, options, table
        self._layout = table.layout
        self._place = _Places.of(table.layout)
        self._where = table.shown(root)
        self._search = image_search(table, split)
        self._absent = 0  # rows of objects that are not there
        self._lost: list[Skipped] = []

    def read(self) -> DetectionData:
        """The split. Raises EffkerasError like `SplitBuilder`, and for boxes in an unexpected unit."""
        images = self._by_path(self._by_name())
        self._check_unit(images)
        names = self._class_names(images.values())
        listed = listed_labels(self._root, names.values())
        categories = [Category(number, name) for number, name in enumerate(listed, 1)]
        builder = SplitBuilder(self._root, self._split, self._options, categories or None)
        for one in self._lost:
            builder.lose_image(one.what, one.why)
        for path, image in images.items():
            self._add(builder, path, image, names)
        if self._absent:
            note_once(f"{self._where}: {self._absent} rows have Confidence 0: the object is not in the image")
        return builder.build()

    def _by_name(self) -> dict[str, _Image]:
        """The images of the split by their names in the table."""
        place, own = self._place, self._split
        images: dict[str, _Image] = {}
        for line, given in self._table.rows():
            cells, problem = filled(given, self._layout)
            name = cells[place.image].strip()
            if not name:
                self._lost.append(Skipped(f"{self._where}: line {line}", "it names no image"))
                continue
            split = own if place.split is None else split_named(cells[place.split])
            size = place.size(cells)
            image = images.get(name)
            if image is None:
                image = images[name] = _Image(line, split, size)
            elif image.split != split or image.size != size:
                image.problem = image.problem or _contradiction(image, line, split, size)
            if split == own:
                self._add_object(image, line, cells, problem)
        return {name: one for name, one in images.items() if one.split == own or one.problem}

    def _add_object(self, image: _Image, line: int, cells: list[str], problem: str) -> None:
        """Adds a row's object to its image. A row without class and box only names an image."""
        place = self._place
        label = cells[place.label].strip() if place.label < len(cells) else ""
        texts = place.box(cells)
        if not (label or problem) and _EMPTY.issuperset(map(str.strip, texts)):
            return
        if place.confidence is not None and _number(cells[place.confidence]) == 0:
            self._absent += 1
            return
        box = None
        if not problem:
            box, problem = place.parse(texts)
        if not (label or problem):
            problem = "it has a box and no class"
        crowd = place.crowd is not None and cells[place.crowd].strip().lower() in _YES
        image.objects.append((line, label, box, problem, crowd))

    def _by_path(self, by_name: Mapping[str, _Image]) -> dict[Path, _Image]:
        """The images by file, whose names may be written in several ways."""
        images: dict[Path, _Image] = {}
        for name, image in by_name.items():
            try:
                path = self._search.find(name)
            except EffkerasError as error:
                self._lost.append(Skipped(f"{self._where}: line {image.line}", str(error)))
                continue
            if path in images:
                images[path].objects += image.objects
            else:
                images[path] = image
        self._search.note_ends(self._where)
        return images

    def _check_unit(self, images: Mapping[Path, _Image]) -> None:
        """Raises EffkerasError when boxes are in pixels instead of shares of the image, or the reverse."""
        boxes = [box for image in images.values() for _, _, box, _, _ in image.objects if box]
        if self._layout.normalised:
            beyond = sum(max(box) > 2 for box in boxes)
            if beyond * 2 > len(boxes):
                raise EffkerasError(
                    f"{self._table.path}: {beyond} of {len(boxes)} boxes have values above 1, and the "
                    f"layout of {self._layout.title} has shares of the image's width and height; divide by "
                    f"these, or use the header {','.join(COLUMNS)} for pixels"
                )
        elif boxes and max(map(max, boxes)) <= 1 and self._has_large_image(images):
            raise EffkerasError(
                f"{self._table.path}: all values of its {len(boxes)} boxes lie within 0 and 1, and the "
                f"columns {', '.join(CORNERS)} hold pixels; multiply them by the image's width and height"
            )

    def _has_large_image(self, images: Mapping[Path, _Image]) -> bool:
        """Whether the first image with boxes is large; an unreadable one is reported later."""
        path, image = next((path, image) for path, image in images.items() if image.objects)
        try:
            return min(_size(image.size) or image_size(path)) > _LARGE
        except EffkerasError:
            return False

    def _class_names(self, images: Iterable[_Image]) -> Mapping[str, str]:
        """The class name for each label in the table; Open Images has ids, described in another file."""
        used = dict.fromkeys(label for image in images for _, label, _, _, _ in image.objects if label)
        known = _descriptions(self._table.path.parent) if self._layout.has_ids else {}
        unknown = [label for label in used if known and label not in known]
        if unknown:
            note_once(f"{self._where}: {len(unknown)} classes have no description, such as {unknown[0]!r}")
        return {label: known.get(label, label) for label in used}

    def _add(self, builder: SplitBuilder, path: Path, image: _Image, names: Mapping[str, str]) -> None:
        if image.problem:
            builder.lose_image(f"{self._where}: {path.name}", image.problem)
            return
        size = _size(image.size)
        scale = (1.0, 1.0)
        if self._layout.normalised:
            try:
                size = size or image_size(path)
            except EffkerasError as error:
                builder.lose_image(f"{self._where}: line {image.line}", str(error))
                return
            scale = (float(size[1]), float(size[0]))
        annotations = (_annotation(one, names, scale) for one in image.objects)
        builder.add(path, size, annotations, where=self._where)


def _contradiction(image: _Image, line: int, split: str, size: tuple[str, str]) -> str:
    """What is wrong where a later line has the image in another split or states another size; or ""."""
    if image.split != split:
        return f"line {image.line} has it in the split {image.split!r}, and line {line} in {split!r}"
    if _size(image.size) == _size(size):
        return ""
    own, other = " x ".join(image.size), " x ".join(size)
    return f"line {image.line} says it has {own} pixels, and line {line} says {other}"


def _annotation(one: _Object, names: Mapping[str, str], scale: tuple[float, float]) -> Annotation:
    line, label, box, problem, crowd = one
    name = names.get(label, label)
    what = f"line {line} ({name[:40]!r})"
    if box is None:
        return Annotation(what, name, None, problem, crowd)
    left, top, right, bottom = box
    x, y = scale
    corners: Corners = (top * y, left * x, bottom * y, right * x)
    return Annotation(what, name, corners, problem, crowd, None, None, box)


def _corners(texts: Sequence[str]) -> tuple[_Box | None, str]:
    try:
        left, top, right, bottom = map(float, texts)
    except ValueError:
        left, top, right, bottom = map(_number, texts)
    if math.isfinite(left + top + right + bottom):
        return (left, top, right, bottom), ""
    if not any(map(str.strip, texts)):
        return None, "it has a class and no box"
    return None, f"its box {', '.join(texts)[:80]!r} has a value that is not a finite number"


def _around(texts: Sequence[str]) -> tuple[_Box | None, str]:
    """The box around the vertices x, y, x, y, ...; Google's format allows some to be empty."""
    pairs = [pair for pair in zip(texts[::2], texts[1::2], strict=False) if any(map(str.strip, pair))]
    if not pairs:
        return None, "it has a class and no box"
    xs, ys = [_number(x) for x, _ in pairs], [_number(y) for _, y in pairs]
    if len(pairs) < 2 or not math.isfinite(sum(xs) + sum(ys)):
        return None, f"its box {', '.join(texts)[:80]!r} is not two corners or more of finite numbers"
    return (min(xs), min(ys), max(xs), max(ys)), ""


def _number(text: str) -> float:
    """The number in a cell, perhaps with a decimal comma; NaN for other text."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(text.replace(",", ".", 1))
    except ValueError:
        return math.nan


def _size(texts: tuple[str, str]) -> tuple[int, int] | None:
    """The stated height and width; None, to read them from the image, where there are none, or zeros."""
    width, height = map(_number, texts)
    if not (1 <= width < math.inf and 1 <= height < math.inf):
        return None
    return int(height), int(width)


def _descriptions(folder: Path) -> dict[str, str]:
    """The class names of Open Images by id, from the class-descriptions.csv in the folder or beside it."""
    folders = (folder, folder.parent, folder.parent / "metadata")
    paths = [path for one in folders for path in sorted(one.glob("*class-descriptions*.csv"))]
    if not paths:
        return {}
    try:
        with paths[0].open(encoding="utf-8-sig", newline="") as file:
            return {row[0].strip(): row[1].strip() for row in csv.reader(file) if len(row) > 1}
    except (OSError, UnicodeError, csv.Error) as error:
        raise EffkerasError(f"cannot read {paths[0]} ({error}); it needs an id and a name a line") from error
