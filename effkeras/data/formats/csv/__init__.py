"""Boxes or classes in CSV files; reader and writer.

Boxes in pixels under the header filename,width,height,class,xmin,ymin,xmax,ymax, as in TensorFlow's tutorials
and Roboflow's exports; Google's AutoML (https://cloud.google.com/vertex-ai/docs/image-data/object-detection/
prepare-data#csv) and Open Images (https://storage.googleapis.com/openimages/web/download_v7.html), both in
shares of the image's sides. Classes in the columns image, label and perhaps split.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from effkeras.data.formats import FORMATS, DataFormat, Evidence
from effkeras.data.formats.class_folders import LABELS
from effkeras.data.formats.csv.boxes import BoxReader
from effkeras.data.formats.csv.tables import (
    COLUMNS,
    Table,
    filled,
    image_search,
    label_tables,
    listed_labels,
    split_named,
)
from effkeras.data.images import tolerated
from effkeras.data.records import (
    ClassificationData,
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
    LabelledData,
    ReadOptions,
    Skipped,
)
from effkeras.data.writing import copy_images, short
from effkeras.definitions.class_names import checked_class_name, class_key, natural_key
from effkeras.support import files
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError

_WRITTEN = "_annotations.csv"


@FORMATS.register("csv")
class Csv(DataFormat):
    """CSV files with a line for each box, or for each image and its class."""

    title = "CSV"
    layout = (
        f"SPLIT.csv, SPLIT_labels.csv, SPLIT/{_WRITTEN} or annotations.csv with the columns "
        f"{','.join(COLUMNS)} or image,label,split; or as Google's AutoML or Open Images"
    )
    evidence = Evidence.LABEL_FILE

    def splits(self, root: Path) -> list[str]:
        """The splits in the names of files, of folders, or in the column of splits."""
        return sorted({split for table, named in label_tables(root) for split in table.splits() or [named]})

    def read(self, root: Path, split: str, options: ReadOptions) -> LabelledData:
        """Reads a split. A `difficult` object, and a group in Open Images, is ignored like a crowd."""
        root = Path(root)
        tables = label_tables(root)
        own = [table for table, named in tables if split in (table.splits() or [named])]
        if not own:
            raise self.missing_split(root, split)
        if len(own) > 1:
            names = " and ".join(table.shown(root) for table in own)
            raise EffkerasError(f"{root}: {names} all have the split {split!r}; leave one of them there")
        table = own[0]
        if table.layout.problem:
            raise EffkerasError(f"{table.path}: {table.layout.problem}")
        if table.layout.detects:
            return BoxReader(root, split, options, table).read()
        return _ClassReader(root, split, options, table).read([one for one, _ in tables])

    def write(self, folder: Path, splits: Sequence[LabelledData]) -> None:
        """Writes boxes as Roboflow does: SPLIT/_annotations.csv beside the images of the split.

        Crowds are marked in a column `crowd`, which is there if the data set has some. Classes of images go
        into one file labels.csv. The classes and their order go into labels.txt. Masks are not written,
        which is noted.
        """
        boxes = [data for data in splits if isinstance(data, DetectionData)]
        classes = [data for data in splits if isinstance(data, ClassificationData)]
        if boxes and classes:
            raise EffkerasError(
                f"{boxes[0].root}: some splits have boxes and some have none; write them apart"
            )
        has_crowds = any(record.crowd.any() for data in boxes for record in data.records)
        for data in boxes:
            _write_boxes(folder / data.split, data, has_crowds=has_crowds)
        if classes:
            _write_classes(folder, classes)
        files.write_text(folder / LABELS, "".join(f"{label}\n" for label in splits[0].labels))


class _ClassReader:
    """Reads the classes of the images of one split from a table."""

    def __init__(self, root: Path, split: str, options: ReadOptions, table: Table) -> None:
        self._root, self._split, self._options, self._table = root, split, options, table
        self._where = table.shown(root)
        self._search = image_search(table, split)

    def read(self, tables: Sequence[Table]) -> ClassificationData:
        """The split, with the classes of all `tables` of the data set. Raises EffkerasError for bad ones."""
        chosen, bad = self._chosen()
        total = len(chosen) + len(bad)
        if bad and not (self._options.skip_bad or tolerated(len(bad), total)):
            raise EffkerasError(
                f"{self._root}: {len(bad)} of {total} images of the split {self._split!r} cannot be used; "
                f"the first: {bad[0].what}: {bad[0].why}; correct them, or leave them out with --skip-bad"
            )
        if not chosen:
            why = f"; the first: {bad[0].what}: {bad[0].why}" if bad else ""
            raise EffkerasError(f"{self._root}: the split {self._split!r} has no usable image{why}")
        labels = self._labels(tables)
        index = {class_key(label): place for place, label in enumerate(labels)}
        records = tuple(ClassificationRecord(path, index[key]) for path, key in chosen.items())
        return ClassificationData(self._root, self._split, labels, records, tuple(bad))

    def _chosen(self) -> tuple[dict[Path, str], list[Skipped]]:
        """The class of each image by its key, and the rows that cannot be used."""
        chosen: dict[Path, str] = {}
        conflicts: dict[Path, Skipped] = {}
        bad: list[Skipped] = []
        for line, name, label in _images_with_class(self._table, self._split):
            where = f"{self._where}: line {line}"
            try:
                key = class_key(checked_class_name(label))
                path = self._search.find(name)
            except EffkerasError as error:
                bad.append(Skipped(where, str(error)))
                continue
            if chosen.setdefault(path, key) != key:
                why = f"{name} is {label[:40]!r} here and {chosen[path][:40]!r} before; give it one class"
                conflicts.setdefault(path, Skipped(where, why))
        self._search.note_ends(self._where)
        kept = {path: key for path, key in chosen.items() if path not in conflicts}
        return kept, [*bad, *conflicts.values()]

    def _labels(self, tables: Sequence[Table]) -> tuple[str, ...]:
        names: dict[str, str] = {}
        for table in tables:
            for _, _, label in _images_with_class(table, None):
                if class_key(label) not in names:
                    names[class_key(label)] = label
        names.pop("", None)
        return listed_labels(self._root, names.values()) or tuple(sorted(names.values(), key=natural_key))


def _images_with_class(table: Table, split: str | None) -> Iterator[tuple[int, str, str]]:
    """The line, image and class of each row of a split, of all splits for None; "" for a bad row's class."""
    columns = table.layout.columns
    split_at = columns.get("split")
    for line, given in table.rows():
        cells, problem = filled(given, table.layout)
        if split_at is None or split is None or split_named(cells[split_at]) == split:
            yield line, cells[columns["image"]].strip(), "" if problem else cells[columns["label"]].strip()


def _write_boxes(folder: Path, data: DetectionData, *, has_crowds: bool) -> None:
    names = copy_images(data, folder)
    if any(record.masks for record in data.records):
        note_once(f"{data.root}: CSV has no place for masks: only the boxes are written")
    rows = (row for record in data.records for row in _rows(record, names[record.path], data.labels))
    header = (*COLUMNS, "crowd") if has_crowds else COLUMNS
    _write(folder / _WRITTEN, [header, *(row[: len(header)] for row in rows)])


def _rows(record: DetectionRecord, name: str, labels: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """A row for each box; for an image without boxes, one with empty class and corners."""
    height, width = record.size
    for box, label, crowd in zip(record.boxes, record.classes, record.crowd, strict=True):
        yield name, width, height, labels[label], *map(short, box[[1, 0, 3, 2]]), int(crowd)
    if not len(record.boxes):
        yield name, width, height, "", "", "", "", "", ""


def _write_classes(folder: Path, splits: Sequence[ClassificationData]) -> None:
    rows: list[tuple[object, ...]] = [("image", "label", "split")]
    for data in splits:
        names = copy_images(data, folder / data.split)
        rows += (
            (f"{data.split}/{names[one.path]}", data.labels[one.label], data.split) for one in data.records
        )
    _write(folder / "labels.csv", rows)


def _write(path: Path, rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write_text(path, text.getvalue())
