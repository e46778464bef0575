"""Associated files of the metadata: class labels and calibrations of scores, one class a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from effkeras.support.errors import EffkerasError

_LABELS = "a file with one label a line"
_CSV = "a CSV with a line for each class"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_COUNTS = (0, 3, 4)
_LINE = "give scale, slope, offset and perhaps a smallest score, or an empty line"


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The labels in a file. EffkerasError when it cannot be read or has not `classes` lines."""
    content = _content(path, _LABELS)
    labels = labels_in(content, str(path))
    check_labels(labels, classes, str(path))
    return labels


def check_labels(labels: Sequence[str], classes: int, where: str) -> None:
    """Raises EffkerasError unless there is a label for each class."""
    if len(labels) != classes:
        raise EffkerasError(
            f"{where}: {len(labels)} labels for {classes} classes; "
            "give one label a line, in the model's order"
        )


def labels_in(content: bytes, where: str) -> tuple[str, ...]:
    """The labels in the content of a file; EffkerasError when it is no text."""
    lines = _text(content, where, _LABELS).split("\n")
    return tuple(line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1]))


def label_file(labels: Sequence[str]) -> bytes:
    """The content of a file with these labels; EffkerasError for a label that goes over several lines."""
    for label in labels:
        if "\n" in label or "\r" in label:
            raise EffkerasError(f"the label {label!r} has a line break, which no label file can hold")
    return "".join(f"{label}\n" for label in labels).encode()


def read_calibration(path: Path, classes: int) -> bytes:
    """The calibration in a file, as `calibration_file` gives it; EffkerasError if it cannot be read."""
    content = _content(path, _CSV)
    return calibration_file(content, classes, str(path))


def calibration_file(content: bytes, classes: int, where: str) -> bytes:
    """A calibration as all readers take it.

    MediaPipe counts what is between line breaks, so that one after the last line would be one class more.

    Args:
        content: the text, with a line break after its last line or without.
        classes: how many lines there have to be.
        where: what errors call it.

    Raises:
        EffkerasError: another number of lines, none that calibrates, or a line that is something else than
            three or four numbers, the first not below 0.
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


def _content(path: Path, wanted: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}; give {wanted}") from error


def _text(content: bytes, where: str, wanted: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EffkerasError(f"{where} is not UTF-8 text; give {wanted}") from error


def _check(line: str, where: str) -> None:
    values = [value.strip() for value in line.split(",")] if line else []
    if len(values) not in _COUNTS:
        raise EffkerasError(f"{where} has {len(values)} values; {_LINE}")
    for value in values:
        if not _NUMBER.fullmatch(value):
            raise EffkerasError(f"{where}: {value!r} is not a number; {_LINE}")
    if values and float(values[0]) < 0:
        raise EffkerasError(f"{where}: the scale {values[0]} is below 0, which no reader takes")
