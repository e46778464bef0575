"""Score calibration files: for each class a line of scale, slope, offset and perhaps a smallest score.

A class with an empty line, and a score below the smallest, get the default score that the metadata names.
Source of the format: metadata_schema.fbs and MediaPipe's score_calibration_utils.cc.
"""

from __future__ import annotations

import re
from pathlib import Path

from effkeras.errors import EffkerasError

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_COUNTS = (0, 3, 4)
_WANTED = "give scale, slope, offset and perhaps a smallest score, or an empty line"


def read_calibration(path: Path, classes: int) -> bytes:
    """The calibration in a file, as `calibration_file` gives it; EffkerasError if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EffkerasError(
            f"cannot read {path}: {error.strerror}; give a CSV with a line for each class"
        ) from error
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
    lines = [line.strip() for line in _text(content, where).split("\n")]
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


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EffkerasError(f"{where} is not UTF-8 text; give a CSV with a line for each class") from error


def _check(line: str, where: str) -> None:
    values = [value.strip() for value in line.split(",")] if line else []
    if len(values) not in _COUNTS:
        raise EffkerasError(f"{where} has {len(values)} values; {_WANTED}")
    for value in values:
        if not _NUMBER.fullmatch(value):
            raise EffkerasError(f"{where}: {value!r} is no number; {_WANTED}")
    if values and float(values[0]) < 0:
        raise EffkerasError(f"{where}: the scale {values[0]} is below 0, which no reader takes")
