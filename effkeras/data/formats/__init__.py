"""Data set formats: one module each, with a reader and, for some, a writer.

A module registers its format:

    @FORMATS.register("voc")
    class Voc(DataFormat): ...

`open_data`, `find_split` and their errors then include it. `effkeras.data.splits` chooses the format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from effkeras.data.records import LabelledData, ReadOptions
from effkeras.support.errors import EffkerasError
from effkeras.support.registry import Registry

# The split of a data set that is not split.
WHOLE = "train"


class Evidence(IntEnum):
    """How a format recognises its data. Where several formats match, the strongest evidence wins."""

    ANY_FOLDERS = 0  # folders of images with any names
    FOLDER_NAMES = 1  # folders with the names that the format prescribes
    LABEL_FILE = 2  # a label file that no other format has


class DataFormat(ABC):
    """One data set format.

    `title` and `layout` describe it in errors; `marks_unknown` tells whether `write` also writes the regions
    of left-out annotations. A format that can be written has a `write` of its own. A set without splits is
    one split, `WHOLE`.
    """

    title: str
    layout: str
    evidence: Evidence
    marks_unknown: ClassVar[bool] = False

    def exists(self, root: Path) -> bool:
        """Whether there is a data set; a format whose sets have names instead of paths says so here."""
        return root.exists()

    @abstractmethod
    def splits(self, root: Path) -> list[str]:
        """The names of the splits in a folder or file, found by content; [] when it is of another format.

        It must be fast: it looks at names of files and at the beginning of one, and never raises.
        """

    @abstractmethod
    def read(self, root: Path, split: str, options: ReadOptions) -> LabelledData:
        """Reads one split into records.

        Raises EffkerasError for a missing split (`missing_split`) and for bad labels.
        """

    def write(self, folder: Path, splits: Sequence[LabelledData]) -> None:
        """Writes splits with the same classes, images included, into the existing folder `folder`.

        Raises EffkerasError for data that the format cannot hold, and when a file cannot be written.
        """
        raise NotImplementedError

    def missing_split(self, root: Path, split: str) -> EffkerasError:
        """The error for a missing split."""
        known = ", ".join(self.splits(root)) or "none"
        return EffkerasError(f"{root}: no split {split!r}; splits found: {known}; layout: {self.layout}")


def writable() -> dict[str, type[DataFormat]]:
    """The formats that can be written, by name."""
    return {name: entry for name, entry in FORMATS.entries().items() if entry.write is not DataFormat.write}


FORMATS: Registry[type[DataFormat]] = Registry("data format", "effkeras.data.formats")
