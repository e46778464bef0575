"""Tables of labels in CSV files: how one is recognised by its first lines, and its rows.

A layout says which column holds what. Three layouts of boxes are known, and two of classes; a header may name
its columns in any order, by one of several names, in any case.
"""

from __future__ import annotations

import csv
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from effkeras.data.formats import WHOLE
from effkeras.data.formats.class_folders import LABELS, read_labels
from effkeras.data.image_files import FolderSearch
from effkeras.data.images import SUFFIXES
from effkeras.definitions.class_names import class_key
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError, in_one_line

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = ("filename", "width", "height", "class", *CORNERS)  # as the tutorials of TensorFlow name them
LABEL_FOLDERS = ("annotations", "labels", "data")
_SHOWN_HEADER = 300  # characters of a header in an error
_IN_SPLIT = (  # the tables in the folder of a split, {} being its name: Roboflow's first, FiftyOne's last
    *("_annotations.csv", "annotations.csv", "labels.csv", "{}.csv", "{}_labels.csv"),
    "labels/detections.csv",
)
_WHOLE_NAMES = frozenset({"annotations", "annotation", "labels", "label", "bbox", "boxes", "data", "dataset"})
_HEAD_BYTES = 16_384  # of a file, by which it is recognised
_DELIMITERS = (",", ";", "\t")
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "validate", "test", "unassigned"})

# The names of a column, without case and punctuation; the first that is there counts.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("filename", "imagename", "imagefile", "imagefilename", "imagepath", "imgpath", "filepath", "path"),
        *("file", "image", "img", "imageid"),
    ),
    "label": ("class", "classname", "label", "labelname", "category", "categoryname"),
    "split": ("split", "subset", "set", "mluse"),
    "width": ("width", "imagewidth", "imgwidth"),
    "height": ("height", "imageheight", "imgheight"),
    "xmin": ("xmin", "x1", "left", "bboxxmin"),
    "ymin": ("ymin", "y1", "top", "bboxymin"),
    "xmax": ("xmax", "x2", "right", "bboxxmax"),
    "ymax": ("ymax", "y2", "bottom", "bboxymax"),
    "crowd": ("crowd", "iscrowd", "difficult", "isdifficult", "isgroupof"),
    "confidence": ("confidence",),
}
# Columns of boxes in another form: a table with one of them is not one of classes.
_OTHER_BOXES = frozenset({"x", "y", "w", "h", "x0", "y0", "cx", "cy", "xcenter", "ycenter", "bbox", "bboxes"})


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of a table hold.

    Attributes:
        title: its name in errors.
        columns: the position of each column by what it holds: image, label, split, width, ...
        width: the number of columns that each row must have; 0 for any number.
        detects: it has boxes.
        normalised: boxes are shares of the image's width and height, not pixels.
        vertices: the first of the columns x, y, x, y, ... of a box's corners; None for columns by name.
        has_header: the first row names the columns.
        has_ids: classes are ids, which another file describes.
        problem: why it cannot be read, "" when it can.
    """

    title: str
    columns: Mapping[str, int]
    width: int = 0
    detects: bool = True
    normalised: bool = False
    vertices: int | None = None
    has_header: bool = False
    has_ids: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file of labels, and its layout; `encoding` and `delimiter` say how it is written."""

    path: Path
    layout: Layout
    encoding: str
    delimiter: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The line number and the cells of each row below the header; empty rows are left out.

        Raises EffkerasError for a file that cannot be read or is not CSV.
        """
        line = 0
        try:
            with self.path.open(encoding=self.encoding, newline="") as file:
                reader = csv.reader(file, delimiter=self.delimiter, strict=True)
                if self.layout.has_header:
                    next(reader, None)
                for cells in reader:
                    line = reader.line_num
                    if any(cells):
                        yield line, cells
        except OSError as error:
            raise EffkerasError(f"cannot read {self.path}: {error.strerror}") from error
        except UnicodeError as error:
            raise EffkerasError(f"{self.path}: after line {line}: not UTF-8; save it as UTF-8") from error
        except csv.Error as error:
            raise EffkerasError(f"{self.path}: after line {line}: not valid CSV ({error})") from error

    def splits(self) -> list[str]:
        """The splits that the column of splits names; [] without that column."""
        place = self.layout.columns.get("split")
        if place is None:
            return []
        try:
            status = self.path.stat()
        except OSError:
            return []
        return list(_splits_of(self.path, (status.st_mtime_ns, status.st_size), place))

    def shown(self, root: Path) -> str:
        """The file's name in errors and notes: relative to the data set's folder."""
        return str(self.path.relative_to(root)) if root in self.path.parents else self.path.name


def table_of(path: Path) -> Table | None:
    """The table in a file; None when it is not a table of labels. Never raises."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace")
    if len(head) == _HEAD_BYTES:
        text = text[: text.rfind("\n") + 1]  # whole lines
    for delimiter in sorted(_DELIMITERS, key=text.partition("\n")[0].count, reverse=True):
        layout = layout_of(_first_rows(text, delimiter))
        if layout is not None:
            return Table(path, layout, encoding, delimiter)
    return None


def layout_of(rows: Sequence[Sequence[str]]) -> Layout | None:
    """The layout of a table by its first rows; None when it is none of labels."""
    rows = [[cell.strip() for cell in row] for row in rows if any(row)]
    if not rows:
        return None
    return _with_header(rows[0]) or _without_header(rows)


def split_named(text: str) -> str:
    """The split that a cell names; images that AutoML has not assigned are for training."""
    name = text.strip().lower()
    return WHOLE if name in ("", "unassigned") else name


def _first_rows(text: str, delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        rows += csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    except csv.Error:
        return rows
    return rows


def _with_header(header: Sequence[str]) -> Layout | None:
    """The layout by the names of the columns."""
    names = [re.sub("[^a-z0-9]", "", name.lower()) for name in header]
    columns = {
        what: names.index(first)
        for what, known in _NAMES.items()
        if (first := next((name for name in known if name in names), None))
    }
    corners = [name for name in CORNERS if name in columns]
    if "image" not in columns or not ("label" in columns or corners):
        return None
    detects = bool(corners) or bool(_OTHER_BOXES & set(names))
    is_open_images = detects and {"imageid", "labelname"} <= set(names)
    problem = ""
    if detects and len(corners) < len(CORNERS):
        found = in_one_line(", ".join(header))[:_SHOWN_HEADER]
        problem = f"its columns are {found}; a box needs {', '.join(CORNERS)}"
    elif "label" not in columns:
        problem = "it has no column 'class'; add one with the class name of each box"
    return Layout(
        title="Open Images" if is_open_images else ",".join(COLUMNS if detects else ("image", "label")),
        columns=columns,
        width=len(header),
        detects=detects,
        normalised=is_open_images,
        has_ids=is_open_images,
        has_header=True,
        problem=problem,
    )


def _without_header(rows: Sequence[Sequence[str]]) -> Layout | None:
    """The layout by the first cells: a split or an image file, then a class or numbers."""
    first = rows[0]
    most = max(map(len, rows))
    if first[0].lower() in _SPLITS and len(first) > 1 and _is_image_name(first[1]):
        return _automl({"split": 0, "image": 1, "label": 2}, most)
    if not _is_image_name(first[0]) or most < 2:
        return None
    if most == 6 and all(_are_numbers(row[1:5]) for row in rows):  # as keras-retinanet has it
        columns = {"image": 0, "label": 5} | {name: place for place, name in enumerate(CORNERS, 1)}
        return Layout(f"path,{','.join(CORNERS)},class", columns, width=6)
    if most == 3 and all(row[-1].lower() in _SPLITS for row in rows):
        return Layout("image,label,split", {"image": 0, "label": 1, "split": 2}, width=3, detects=False)
    return _automl({"image": 0, "label": 1}, most) if _are_numbers(first[2:]) else None


def _automl(columns: dict[str, int], most: int) -> Layout:
    """Google's layout, for boxes where rows have more cells than those of `columns`."""
    start = len(columns)
    if most > start:
        return Layout("Google's AutoML", columns, normalised=True, vertices=start)
    return Layout(",".join(columns), columns, width=start, detects=False)


def _is_image_name(text: str) -> bool:
    return PurePosixPath(text.replace("\\", "/")).suffix.lower() in SUFFIXES


def _are_numbers(cells: Iterable[str]) -> bool:
    """Whether cells hold numbers or nothing."""
    return all(re.fullmatch(r"[-+0-9.eE]*", cell) for cell in cells)


@functools.lru_cache(maxsize=8)
def _splits_of(path: Path, state: tuple[int, int], place: int) -> tuple[str, ...]:
    """The splits that a column names; remembered, as long as the file's time and size (`state`) stay."""
    table = table_of(path)
    if table is None:
        return ()
    found: dict[str, None] = {}
    try:
        for _, cells in table.rows():
            if place < len(cells) and cells[place] not in found:
                found[cells[place]] = None
    except EffkerasError:  # reading the split says what is wrong
        found[WHOLE] = None
    return tuple(sorted({split_named(one) for one in found}))


def filled(cells: list[str], layout: Layout) -> tuple[list[str], str]:
    """A row with as many cells as the layout has columns, and what is wrong if it had another number."""
    count, width = len(cells), layout.width or layout.columns["image"] + 1
    if count < width:
        return cells + [""] * (width - count), f"it has {count} cells, and the table {width} columns"
    if layout.width and any(cells[width:]):
        return cells, f"it has {count} cells, and the table {width} columns"
    return cells, ""


def image_search(table: Table, split: str) -> FolderSearch:
    """Where a table's images are: beside it, in images/ or data/, in the split's folder, or in images/SPLIT.

    The same goes for the folder above, where the table is in a folder of annotations.
    """
    own = table.path.parent
    bases = [own.parent, own] if own.name.lower() in LABEL_FOLDERS else [own]
    below = (Path(split), Path(split, "images"), Path("images", split), Path("images"), Path("data"), Path())
    return FolderSearch([base / one for base in bases for one in below], sorted(SUFFIXES))


def listed_labels(root: Path, used: Iterable[str]) -> tuple[str, ...]:
    """The classes in the data set's labels.txt, if it has all that are used; else ()."""
    path = (root if root.is_dir() else root.parent) / LABELS
    if not path.is_file():
        return ()
    listed = read_labels(path)
    known = set(map(class_key, listed))
    missing = [name for name in used if class_key(name) not in known]
    if missing:
        note_once(f"{path} lacks the class {missing[0]!r}, so it is not used")
    return () if missing else listed


def label_tables(root: Path) -> list[tuple[Table, str]]:
    """The tables of a data set, each with the split of its file or folder name; `WHOLE` where it has none.

    `root` is a CSV file, or a folder with CSV files in it, in its folder of annotations, or in the folders of
    its splits. Where some have boxes, those without are left out. Never raises.
    """
    if root.is_file():
        own = table_of(root) if root.suffix.lower() in TABLE_SUFFIXES else None
        parent = root.absolute().parent.name.lower()
        split = _split_in(root.stem) or (parent if parent in _SPLITS else WHOLE)
        return [(own, split)] if own else []
    found: list[tuple[Table, str]] = []
    names, folders = _listed(root)
    found += _named(root, names)
    for name in folders:
        folder = root / name
        if name.lower() in LABEL_FOLDERS:
            found += _named(folder, _listed(folder)[0])
        else:
            paths = (folder / one.format(name) for one in _IN_SPLIT)
            table = next((table for path in paths if path.is_file() and (table := table_of(path))), None)
            found += [(table, name)] if table else []
    detects = any(table.layout.detects for table, _ in found)
    return [(table, split) for table, split in found if table.layout.detects == detects]


def _named(folder: Path, names: Sequence[str]) -> list[tuple[Table, str]]:
    """The tables of these files. Other names than the usual ones are splits where there are several."""
    tables = [table for name in names if (table := table_of(folder / name))]
    if len(tables) == 1:
        return [(tables[0], _split_in(tables[0].path.stem) or WHOLE)]
    stems = [table.path.stem for table in tables]
    others = [WHOLE if set(_words(stem)) <= _WHOLE_NAMES else stem for stem in stems]
    return [
        (table, _split_in(stem) or other) for table, stem, other in zip(tables, stems, others, strict=True)
    ]


def _split_in(stem: str) -> str | None:
    """The split in the name of a file: "train" of "train_labels"; None for names such as "annotations"."""
    return next((word for word in _words(stem) if re.match("train|val|test|dev", word)), None)


def _words(stem: str) -> list[str]:
    return re.findall("[a-z0-9]+", stem.lower())


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """The CSV files and the folders in a folder, hidden ones apart; none if it cannot be read."""
    tables: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for one in entries:
                if one.name.startswith("."):
                    continue
                if one.name.lower().endswith(TABLE_SUFFIXES[:2]):
                    tables.append(one.name)
                elif one.is_dir():
                    folders.append(one.name)
    except OSError:
        return [], []
    return sorted(tables), sorted(folders)
