"""Associated files of the metadata: class labels and score calibrations, one line for each class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from effkeras.definitions.class_names import checked_class_names
from effkeras.support.errors import EffkerasError

_LABELS = "a file with one label a line"
_CSV = "a CSV with a line for each class"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_COUNTS = (0, 3, 4)
_LINE = "give scale, slope, offset and perhaps a smallest score, or an empty line"


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The labels in a file.

    Raises EffkerasError if it is unreadable, does not have `classes` lines, or has unfit or repeated names.
    """
    content = _content(path, _LABELS)
    labels = labels_in(content, str(path))
    check_labels(labels, classes, str(path))
    try:
        return checked_class_names(labels)
    except EffkerasError as error:
        raise EffkerasError(f"{path}: {error}") from error


def check_labels(labels: Sequence[str], classes: int, where: str) -> None:
    """Raises EffkerasError unless there is one label for each class."""
    if len(labels) != classes:
        raise EffkerasError(
            f"{where}: {len(labels)} labels for {classes} classes; "
            "give one label a line, in the model's order"
        )


def labels_in(content: bytes, where: str) -> tuple[str, ...]:
    """The labels in the content of a file. Raises EffkerasError when it is not UTF-8 text."""
    lines = _text(content, where, _LABELS).split("\n")
    return tuple(line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1]))


def label_file(labels: Sequence[str]) -> bytes:
    """The content of a label file. Raises EffkerasError for a label with a line break."""
    for label in labels:
        if "\n" in label or "\r" in label:
            raise EffkerasError(f"the label {label!r} has a line break, which no label file can hold")
    return "".join(f"{label}\n" for label in labels).encode()


def read_calibration(path: Path, classes: int) -> bytes:
    """The calibration in a file, as `calibration_file` returns it. Raises EffkerasError if unreadable."""
    content = _content(path, _CSV)
    return calibration_file(content, classes, str(path))


def calibration_file(content: bytes, classes: int, where: str) -> bytes:
    """A calibration file in a form that all readers accept: without a line break at the end.

    MediaPipe splits at line breaks, so it would count one more class after a final line break.

    Args:
        content: the text, with or without a line break after its last line.
        classes: the required number of lines.
        where: the name of the file in errors.

    Raises:
        EffkerasError: the number of lines is wrong, all lines are empty, or a line is not empty and does not
            hold three or four numbers, the first at least 0.
    """
    lines = [line.strip() for line in _text(content, where, _CSV).split("\n")]
    if len(lines) == classes + 1 and not lines[-1]:
        lines.pop()
    if len(lines) != classes:
        count = len(lines) - (not lines[-1])
        raise EffkerasError(f"{where}: {count} lines for {classes} classes; give a line for each")
    for number, line in enumerate(lines, start=1):
        _check(line, f"{where}, line {number}")
    if not any(lines):
        raise EffkerasError(f"{where}: all lines are empty, which calibrates nothing")
    return "\n".join(lines).encode()


def _content(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}; give {expected}") from error


def _text(content: bytes, where: str, expected: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EffkerasError(f"{where} is not UTF-8 text; give {expected}") from error


def _check(line: str, where: str) -> None:
    values = [value.strip() for value in line.split(",")] if line else []
    if len(values) not in _COUNTS:
        raise EffkerasError(f"{where} has {len(values)} values; {_LINE}")
    for value in values:
        if not _NUMBER.fullmatch(value):
            raise EffkerasError(f"{where}: {value!r} is not a number; {_LINE}")
    if values and float(values[0]) < 0:
        raise EffkerasError(f"{where}: the scale {values[0]} is below 0, which no reader takes")
