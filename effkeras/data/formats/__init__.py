"""Data set formats: one module each, with a reader and, for some, a writer.

A module registers its format:

    @FORMATS.register("voc")
    class Voc(DataFormat): ...

`open_data`, `find_split` and their errors then include it. `effkeras.data.splits` chooses the format.
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
    """How a format recognises its data. Where several formats match, the strongest evidence wins."""

    ANY_FOLDERS = 0  # folders of images with any names
    FOLDER_NAMES = 1  # folders with the names that the format prescribes
    LABEL_FILE = 2  # a label file that no other format has


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a split.

    `skip_bad` skips bad annotations and lists them in `.skipped`, instead of failing at the first. `masks`
    also reads the masks of annotations.
    """

    skip_bad: bool = False
    masks: bool = False


class DataFormat(ABC):
    """One data set format. `title` and `layout` describe it in errors."""

    title: str
    layout: str
    evidence: Evidence

    @abstractmethod
    def splits(self, root: Path) -> list[str]:
        """The names of the splits in a folder or file, found by content; [] when it is of another format."""

    @abstractmethod
    def read(self, root: Path, split: str, options: ReadOptions) -> LabelledData:
        """Reads one split into records.

        Raises EffkerasError for a missing split (`missing_split`) and for bad labels.
        """

    def missing_split(self, root: Path, split: str) -> EffkerasError:
        """The error for a missing split."""
        known = ", ".join(self.splits(root)) or "none"
        return EffkerasError(f"{root}: no split {split!r}; splits found: {known}; layout: {self.layout}")


FORMATS: Registry[type[DataFormat]] = Registry("data format", "effkeras.data.formats")
