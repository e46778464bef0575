"""Formats of data sets, one module each: a reader, and beside it the writer where there is one.

A module registers its format:

    @FORMATS.register("voc")
    class Voc(DataFormat): ...

and `open_data`, `find_split` and their errors know it. `effkeras.data.splits` chooses among formats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from effkeras.data.records import LabelledData
from effkeras.support.errors import EffkerasError
from effkeras.support.registry import Registry


class Evidence(IntEnum):
    """What a format recognises its data by. Where several recognise the same, the strongest is used."""

    ANY_FOLDERS = 0  # folders of images, whatever they are called
    FOLDER_NAMES = 1  # folders with the names that the format prescribes
    LABEL_FILE = 2  # a file of labels that no other format has


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a split.

    `skip_bad` leaves bad annotations out, listed in `.skipped`, instead of stopping at the first. `masks`
    also reads the masks that annotations may have.
    """

    skip_bad: bool = False
    masks: bool = False


class DataFormat(ABC):
    """One format of data sets. `title` and `layout` describe it in errors."""

    title: str
    layout: str
    evidence: Evidence

    @abstractmethod
    def splits(self, root: Path) -> list[str]:
        """The splits in a folder or file by name, found by its content; none when it is of another format."""

    @abstractmethod
    def read(self, root: Path, split: str, options: ReadOptions) -> LabelledData:
        """One split as records.

        Raises EffkerasError for a split that is not there (`missing_split`) and for bad labels.
        """

    def missing_split(self, root: Path, split: str) -> EffkerasError:
        """The error for a split that is not there."""
        known = ", ".join(self.splits(root)) or "none"
        return EffkerasError(f"{root}: no split {split!r}; splits found: {known}; layout: {self.layout}")


FORMATS: Registry[type[DataFormat]] = Registry("data format", "effkeras.data.formats")
