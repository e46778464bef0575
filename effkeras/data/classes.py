"""Matches class names: a definition takes the classes of a data set, or data takes those of a model.

A class is identified by its name. Another data set may number the same classes differently, or have only
some of them; `matched` gives it a model's class indices before training or evaluation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effkeras.data.records import (
    Category,
    ClassificationData,
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
    LabelledData,
)
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.imagenet import class_identity
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError, closest

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Classes:
    """Names of classes; `category_ids` are the ids of box categories in the same order, () without boxes."""

    labels: tuple[str, ...]
    category_ids: tuple[int, ...] = ()

    def given_to(self, spec: ModelSpec) -> ModelSpec:
        """The definition with these classes."""
        return spec.replace(classes=len(self.labels), labels=self.labels, category_ids=self.category_ids)


def classes_for(spec: ModelSpec, data: LabelledData) -> Classes:
    """The classes of a data set, to give to a definition.

    Raises EffkerasError for data that do not fit the definition, and for two classes with one name.
    """
    if not _fits(spec, data) or (spec.detects and not _has_boxes(data)):
        raise _misfit(spec, data)
    _check_unique(_where(data), data.labels)
    if not spec.is_detector and len(data.labels) < 2:
        raise EffkerasError(
            f"{_where(data)} has the one class {data.labels[0]!r}, which a classifier would always answer; "
            "add a class of other images, or label boxes for a detector"
        )
    return Classes(tuple(data.labels), _ids(data))


def spec_for_data(spec: ModelSpec, data: LabelledData) -> ModelSpec:
    """The definition with the data set's classes. Raises EffkerasError like `classes_for`."""
    return classes_for(spec, data).given_to(spec)


def matched(data: LabelledData, spec: ModelSpec) -> LabelledData:
    """The data with a model's class indices, names and category ids.

    Classes with the same name are the same, apart from surrounding white space; a number of WordNet
    (n01440764) is the name of ImageNet's class. Order and category ids do not matter, and the data may have
    only some of the model's classes. Where the model has no names, classes are matched by category id if it
    has all of the data's, else by position. Differences are noted once.

    Raises:
        EffkerasError: the data is of another kind, has annotations of a class that the model lacks, or
            class names repeat.
    """
    if not _fits(spec, data):
        raise _misfit(spec, data)
    labels = spec.labels if any(class_keys(spec.labels)) else ()
    return _in_classes(data, _Target(spec.name, spec.classes, labels, spec.category_ids))


def matched_to(data: LabelledData, other: LabelledData) -> LabelledData:
    """A split with the classes of another split, matched as by `matched`."""
    owner = f"the split {other.split!r}"
    return _in_classes(data, _Target(owner, len(other.labels), other.labels, _ids(other)))


@dataclass(frozen=True, slots=True)
class _Target:
    """The classes to match, and their owner for errors; `labels` and `ids` may be ()."""

    owner: str
    count: int
    labels: tuple[str, ...]
    ids: tuple[int, ...]


def _in_classes(data: LabelledData, target: _Target) -> LabelledData:
    if len(data.labels) == target.count and class_keys(data.labels) == class_keys(target.labels):
        return data  # category ids do not matter
    index = _by_name(data, target) if target.labels else _by_number(data, target)
    if index == list(range(target.count)):
        return data
    table = np.array(index)
    if isinstance(data, ClassificationData):
        labels = _labels(data, target, index)
        return replace(data, labels=labels, records=tuple(reclassed(one, table) for one in data.records))
    values = range(len(index)) if data.map_classes is None else data.map_classes
    return replace(
        data,
        categories=_categories(data, target, index),
        records=tuple(relabelled(one, table) for one in data.records),
        map_classes=tuple(index[label] for label in values),
    )


def _by_name(data: LabelledData, target: _Target) -> list[int]:
    """The target's index of each of the data's classes; -1 for classes that no annotation uses."""
    keys = class_keys(data.labels)
    places = {key: place for place, key in enumerate(class_keys(target.labels))}
    index = [places.get(key, -1) for key in keys]
    used = used_classes(data)
    unknown = [data.labels[label] for label in used if index[label] < 0]
    if unknown:
        raise _unknown(data, target, unknown)
    annotated = {keys[label] for label in used}
    _check_unique(_where(data), (data.labels[label] for label in used))
    _check_unique(target.owner, (name for name in target.labels if class_identity(name) in annotated))
    _note_names(data, target, index)
    return index


def _by_number(data: LabelledData, target: _Target) -> list[int]:
    """Like `_by_name` for a target without names."""
    places = {identity: place for place, identity in enumerate(target.ids)}
    index = [places.get(identity, -1) for identity in _ids(data)]
    how = "category id"
    if not index or any(index[label] < 0 for label in used_classes(data)):
        index, how = list(range(len(data.labels))), "position"
        if len(index) != target.count:
            raise EffkerasError(
                f"{data.root} has {len(index)} classes and {target.owner} {target.count}, without names; "
                f"{_how_to_name(data, target)}"
            )
    note_once(f"{_where(data)} is matched by {how} of classes, as {target.owner} has no class names")
    return index


def _note_names(data: LabelledData, target: _Target, index: Sequence[int]) -> None:
    """Notes differing category ids, and classes that only one side has."""
    where, found = _where(data), set(index) - {-1}
    unknown = [name for name, place in zip(data.labels, index, strict=True) if place < 0]
    missing = [name for place, name in enumerate(target.labels) if place not in found]
    pairs = zip(_ids(data), index, strict=False)
    if target.ids and any(place >= 0 and target.ids[place] != identity for identity, place in pairs):
        note_once(f"{where} has other category ids than {target.owner}; classes are matched by name")
    if unknown:
        note_once(f"{where} lists {_few(unknown)}, unknown to {target.owner}; no annotation uses it")
    if missing:
        counts = f"{len(found)} of the {target.count} classes"
        note_once(f"{where} has {counts} of {target.owner}, without {_few(missing)}")


def _unknown(data: LabelledData, target: _Target, unknown: Sequence[str]) -> EffkerasError:
    close = closest(unknown[0], target.labels)
    hint = f"did you mean {close!r} by {unknown[0]!r}? " if close is not None else ""
    advice = "give the same classes the same names, and leave others out"
    if isinstance(data, ClassificationData) and all(map(_is_number, data.labels)):
        advice = "their names are numbers: give the folders the names of the classes"
    return EffkerasError(
        f"{_where(data)} has the classes {_few(unknown)}, and {target.owner} has {_few(target.labels)}; "
        f"{hint}{advice}"
    )


def _is_number(name: str) -> bool:
    """Whether a class is called by a number, or by a number of WordNet, as in ImageNet's folders."""
    return re.fullmatch(r"n?[0-9]+", name.strip()) is not None


def _how_to_name(data: LabelledData, target: _Target) -> str:
    if isinstance(data, ClassificationData):
        return (
            f"write labels.txt into {data.root} with {target.count} lines: the folder's name of each class, "
            "in the model's order"
        )
    return "give data of the same classes, or a definition with labels"


def used_classes(data: LabelledData) -> list[int]:
    """The classes that annotations use. With PNG label maps, which are not read here, all classes."""
    if isinstance(data, ClassificationData):
        return sorted({record.label for record in data.records})
    if any(isinstance(record.masks, Path) for record in data.records):
        return list(range(len(data.labels)))
    classes = [record.classes for record in data.records]
    return np.unique(np.concatenate(classes)).astype(int).tolist() if classes else []  # type: ignore[no-any-return]


def relabelled(record: DetectionRecord, table: np.ndarray) -> DetectionRecord:
    """The record with the class `table[c]` for each class c."""
    return replace(record, classes=table[record.classes])


def reclassed(record: ClassificationRecord, table: np.ndarray) -> ClassificationRecord:
    """The record with the class `table[c]` for its class c."""
    return replace(record, label=int(table[record.label]))


def _labels(data: LabelledData, target: _Target, index: Sequence[int]) -> tuple[str, ...]:
    """The names of the target's classes; the data's where the target has none."""
    own = {place: name for place, name in zip(index, data.labels, strict=True) if place >= 0}
    return target.labels or tuple(own.get(place, str(place)) for place in range(target.count))


def _categories(data: LabelledData, target: _Target, index: Sequence[int]) -> tuple[Category, ...]:
    pairs = zip(target.ids or range(target.count), _labels(data, target, index), strict=True)
    return tuple(Category(identity, name) for identity, name in pairs)


def _check_unique(owner: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(map(class_identity, names)).items() if count > 1]
    if twice:
        raise EffkerasError(f"{owner} has two classes named {twice[0]!r}; give each a name of its own")


def class_keys(names: Iterable[str]) -> list[str]:
    """The key that identifies each class, in the order of the names."""
    return [class_identity(name) for name in names]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _where(data: LabelledData) -> str:
    return f"{data.root}: the split {data.split!r}"


def _ids(data: LabelledData) -> tuple[int, ...]:
    return tuple(one.id for one in data.categories) if isinstance(data, DetectionData) else ()


def _fits(spec: ModelSpec, data: LabelledData) -> bool:
    return spec.is_detector == isinstance(data, DetectionData)


def _misfit(spec: ModelSpec, data: LabelledData) -> EffkerasError:
    wanted = "images with boxes (COCO)" if spec.is_detector else "a folder per class"
    return EffkerasError(f"{data.root} does not fit {spec.name}, which needs {wanted}")


def _has_boxes(data: LabelledData) -> bool:
    return isinstance(data, DetectionData) and any(len(record.boxes) for record in data.records)
