"""The names of a foreign file's classes: from an option, its TFLite Metadata, or a data set.

Lists of labels have a line for the background, or none; so has the file's output. Where the numbers of both
leave no doubt, nobody has to say it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from effkeras.data.label_maps import read_label_map
from effkeras.definitions.class_names import class_key
from effkeras.definitions.definition import BACKGROUND
from effkeras.definitions.imagenet import CLASSES, class_names
from effkeras.litert.foreign.options import ForeignOptions
from effkeras.litert.metadata.associated_files import labels_in
from effkeras.litert.metadata.records import Metadata
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError

IMAGENET = "imagenet"  # as --labels: ImageNet's 1,000 classes
_KINDS = ("TENSOR_AXIS_LABELS", "TENSOR_VALUE_LABELS")
_NO_CLASS = ("background", "__background__", "dummy", "???", "none")
_NUMBERED = re.compile(r"(\d{1,6})[:\s]+(\S.*)")
_SURE = 0.9  # the share of ImageNet's names that must be where they belong
_LONGEST = 200
MOST_CLASSES = 1_000_000


def read_label_file(given: str) -> tuple[str, ...]:
    """The labels that --labels names.

    Args:
        given: "imagenet"; or a text file with a label on each line, perhaps after its number; or a label map
            (.pbtxt), whose class 1 is the first.

    Raises:
        EffkerasError: the file is unreadable, or has no labels.
    """
    path = Path(given)
    if given == IMAGENET and not path.exists():
        return class_names(CLASSES)
    if path.suffix == ".pbtxt":
        return _in_map(path)
    try:
        labels = labels_in(path.read_bytes(), str(path))
    except OSError as error:
        raise EffkerasError(
            f"cannot read {path}: {error.strerror}; give a file with one label a line, or {IMAGENET}"
        ) from error
    if not any(label.strip() for label in labels):
        raise EffkerasError(f"{path} is empty; write the name of a class on each line")
    return _plain(labels)


def _in_map(path: Path) -> tuple[str, ...]:
    """The names of a label map from class 1 on; a class 0 is the background."""
    names = {number - 1: name for number, name in read_label_map(path).names.items() if number}
    if not names or max(names) >= MOST_CLASSES:
        raise EffkerasError(f"{path}: give the classes numbers from 1 to at most {MOST_CLASSES:,}")
    return _in_order(names)


def labels_of(metadata: Metadata | None) -> tuple[str, ...] | None:
    """The labels in a file's metadata; None if it has none."""
    notes = () if metadata is None else metadata.outputs
    files = [file for note in notes for file in note.files if file.kind in _KINDS]
    for file in sorted(files, key=lambda one: bool(one.locale)):  # first those of no language
        content = b"" if metadata is None else metadata.files.get(file.name, b"")
        labels = _plain(labels_in(content, file.name)) if content else ()
        if labels:
            return labels
    return None


def names_for(
    classes: int, options: ForeignOptions, stated: Sequence[str] | None, *, is_detector: bool
) -> tuple[str, ...]:
    """A name for each class of the model; () where nothing names them.

    Args:
        classes: the number of classes; 0 for a detector that does not tell it.
        options: what the user says.
        stated: the labels in the file's metadata.
        is_detector: its classes come without the background.

    Raises:
        EffkerasError: the numbers of labels and classes leave it open which label names which class.
    """
    labels = options.labels if options.labels is not None else stated
    if labels is None:
        return _of_data(classes, options, is_detector)
    offset = options.classes_offset
    if offset is None:
        offset = _offset(classes, labels, is_detector)
    count = max(classes, len(labels) + offset) if is_detector else classes
    if not is_detector and not -len(labels) < offset < classes:
        raise EffkerasError(f"--classes-offset {offset} leaves no label for any of {classes} classes")
    names = _as_imagenet(_shifted(labels, count, offset))
    return tuple(names)


def _offset(classes: int, labels: Sequence[str], is_detector: bool) -> int:
    starts_without = class_key(labels[0]).casefold() in _NO_CLASS
    if is_detector:
        if classes and len(labels) > classes + starts_without:
            raise _unclear(classes, labels)
        return -1 if starts_without else 0
    if len(labels) == classes:
        return 0
    if len(labels) == classes - 1:
        note_once(f"{classes:,} outputs and {len(labels):,} labels: the first output is the background")
        return 1
    if len(labels) == classes + 1 and starts_without:
        return -1
    raise _unclear(classes, labels)


def _unclear(classes: int, labels: Sequence[str]) -> EffkerasError:
    return EffkerasError(
        f"{len(labels):,} labels for {classes:,} classes; give --labels with one for each, or "
        "--classes-offset N: the class, from 0, that the first label names"
    )


def _shifted(labels: Sequence[str], count: int, offset: int) -> list[str]:
    """The label of each class; the others are the background, or have numbers."""
    others = [BACKGROUND if offset == 1 and not place else str(place) for place in range(count)]
    return [
        labels[place - offset] if 0 <= place - offset < len(labels) else others[place]
        for place in range(count)
    ]


def _of_data(classes: int, options: ForeignOptions, is_detector: bool) -> tuple[str, ...]:
    if options.classes_offset is not None and options.data_labels is None:
        raise EffkerasError("--classes-offset says where labels begin, and there are none; give --labels too")
    labels = options.data_labels
    if labels is None:
        return ()
    offset = options.classes_offset
    if offset is None and not is_detector and len(labels) not in (classes, classes - 1):
        raise EffkerasError(
            f"it has {classes:,} outputs without names, and the data {len(labels):,} classes; give --labels"
        )
    if offset is None:
        offset = _offset(classes, labels, is_detector)
    note_once("the file names no classes: they are taken to be those of the data, in the same order")
    return tuple(_shifted(labels, max(classes, len(labels) + offset) if is_detector else classes, offset))


def _as_imagenet(names: Sequence[str]) -> Sequence[str]:
    """ImageNet's names as effkeras writes them, where the names are those of ImageNet in their order.

    Each file lists other synonyms, and data are labelled by WordNet's numbers.
    """
    ours = class_names(len(names))
    same = sum(
        name.split(",")[0].strip().casefold() == our.split(",")[0].casefold()
        for name, our in zip(names, ours, strict=False)
    )
    return ours if ours and same >= _SURE * len(ours) else names


def _plain(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels without numbers before them, control characters and spaces around."""
    while labels and not labels[-1].strip():
        labels = labels[:-1]
    numbered = [_NUMBERED.fullmatch(label.strip()) for label in labels]
    found = {int(one[1]): one[2] for one in numbered if one is not None}
    if len(found) == len(labels) and list(found) == sorted(found) and max(found) < 10 * len(labels):
        return _in_order(found)
    return tuple(map(_printable, labels))


def _in_order(names: dict[int, str]) -> tuple[str, ...]:
    return tuple(_printable(names.get(place, str(place))) for place in range(max(names) + 1))


def _printable(label: str) -> str:
    return "".join(char if char.isprintable() else " " for char in label).strip()[:_LONGEST]
