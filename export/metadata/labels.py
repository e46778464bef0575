"""Label files: UTF-8 text with the name of one class a line, in the model's order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effkeras.errors import EffkerasError


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The labels in a file. EffkerasError when it cannot be read or has not `classes` lines."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EffkerasError(
            f"cannot read {path}: {error.strerror}; give a file with one label a line"
        ) from error
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
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise EffkerasError(f"{where} is not UTF-8 text; write it with one label a line") from error
    return tuple(line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1]))


def label_file(labels: Sequence[str]) -> bytes:
    """The content of a file with these labels; EffkerasError for a label that goes over several lines."""
    for label in labels:
        if "\n" in label or "\r" in label:
            raise EffkerasError(f"the label {label!r} has a line break, which no label file can hold")
    return "".join(f"{label}\n" for label in labels).encode()
