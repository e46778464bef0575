"""Reads all splits of a data set, as its format has them, and gives them the same classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from effkeras.data.classes import reclassed, relabelled
from effkeras.data.records import (
    Category,
    ClassificationData,
    DetectionData,
    LabelledData,
    ReadOptions,
)
from effkeras.data.splits import TEST, TRAIN, VALIDATION, check_exists, format_of, note_left_out
from effkeras.definitions.class_names import class_key, natural_key
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import without_garbage_collection


def read_all(root: Path, options: ReadOptions) -> tuple[LabelledData, ...]:
    """All splits of the data set in `root`, with the same classes in the same order.

    No images are held out. Raises EffkerasError for a data set that cannot be read.
    """
    root = Path(root)
    check_exists(root)
    found = format_of(root)
    splits = []
    for split in sorted(found.splits(root), key=order_of_use):
        with without_garbage_collection():
            data = found.read(root, split, options)
        note_left_out(data)
        splits.append(data)
    return in_shared_classes(splits)


def order_of_use(split: str) -> tuple[int, str]:
    """A sorting key: train, val and test first."""
    starts = (TRAIN, VALIDATION, TEST)
    return next((place for place, start in enumerate(starts) if split.startswith(start)), 3), split


def in_shared_classes(splits: Sequence[LabelledData]) -> tuple[LabelledData, ...]:
    """The splits with the classes of all of them; classes of the same name are the same.

    Category ids are kept where the splits agree on them; otherwise the classes are numbered from 1 on, in
    natural order. Raises EffkerasError when some splits have boxes and others only classes.
    """
    detection = [data for data in splits if isinstance(data, DetectionData)]
    classification = [data for data in splits if isinstance(data, ClassificationData)]
    if detection and classification:
        raise EffkerasError(
            f"{splits[0].root}: some splits have boxes and others only a class for each image"
        )
    if len({data.labels for data in splits}) <= 1 and len({_ids(data) for data in detection}) <= 1:
        return tuple(splits)
    if classification:
        names = _names(splits)
        return tuple(_with_labels(data, names) for data in classification)
    categories = _categories(detection)
    return tuple(_with_categories(data, categories) for data in detection)


def merged(splits: Sequence[LabelledData], split: str) -> LabelledData:
    """One split with the images of all. The splits have the same classes (`in_shared_classes`)."""
    first = splits[0]
    skipped = tuple(one for data in splits for one in data.skipped)
    if isinstance(first, ClassificationData):
        images = tuple(one for data in splits if isinstance(data, ClassificationData) for one in data.records)
        return replace(first, split=split, records=images, skipped=skipped)
    boxes = [data for data in splits if isinstance(data, DetectionData)]
    return replace(
        first,
        split=split,
        records=tuple(one for data in boxes for one in data.records),
        skipped=skipped,
        clipped=tuple(one for data in boxes for one in data.clipped),
    )


def _ids(data: DetectionData) -> tuple[int, ...]:
    return tuple(category.id for category in data.categories)


def _names(splits: Iterable[LabelledData]) -> tuple[str, ...]:
    """The class names of all splits in natural order, each once."""
    names = {class_key(name): name for data in splits for name in data.labels}
    return tuple(sorted(names.values(), key=natural_key))


def _categories(splits: Sequence[DetectionData]) -> tuple[Category, ...]:
    ids = {(class_key(one.name), one.id) for data in splits for one in data.categories}
    names = _names(splits)
    if len(ids) == len({key for key, _ in ids}) == len({number for _, number in ids}):
        by_key = dict(ids)
        return tuple(sorted((Category(by_key[class_key(name)], name) for name in names), key=lambda c: c.id))
    return tuple(Category(number, name) for number, name in enumerate(names, 1))


def _with_labels(data: ClassificationData, names: tuple[str, ...]) -> ClassificationData:
    table = np.array(_places(data.labels, names))
    records = tuple(reclassed(one, table) for one in data.records)
    return replace(data, labels=names, records=records)


def _with_categories(data: DetectionData, categories: tuple[Category, ...]) -> DetectionData:
    table = np.array(_places(data.labels, [one.name for one in categories]), np.int64)
    values = range(len(table)) if data.map_classes is None else data.map_classes
    has_maps = any(isinstance(record.masks, Path) for record in data.records)
    return replace(
        data,
        categories=categories,
        records=tuple(relabelled(record, table) for record in data.records),
        map_classes=tuple(int(table[label]) for label in values) if has_maps else None,
    )


def _places(names: Iterable[str], among: Sequence[str]) -> list[int]:
    places = {class_key(name): place for place, name in enumerate(among)}
    return [places[class_key(name)] for name in names]
