"""Opens a data set of any registered format; each format recognises its own data by content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from effkeras.data.formats import FORMATS, DataFormat, ReadOptions
from effkeras.data.records import LabelledData
from effkeras.support.errors import EffkerasError


def open_data(root: Path, split: str, *, skip_bad: bool = False, masks: bool = False) -> LabelledData:
    """Reads one split of the data set in `root`, a folder or file of any known format.

    `skip_bad` skips bad annotations and lists them in `.skipped`, instead of failing at the first. `masks`
    also reads the masks of annotations, for a model that segments.
    Raises EffkerasError when folder, format or split is missing, or the labels are bad.
    """
    root = Path(root)
    check_exists(root)
    found = _format_of(root)
    if found is None:
        known = "; ".join(f"{entry.title} ({entry.layout})" for entry in FORMATS.entries().values())
        raise EffkerasError(f"{root}: no data set that can be read; known formats: {known}")
    return found.read(root, split, ReadOptions(skip_bad=skip_bad, masks=masks))


def check_exists(root: Path) -> None:
    """Raises EffkerasError when the data folder or file does not exist."""
    if not root.exists():
        raise EffkerasError(f"{root}: there is no such data folder or file; check the path")


def find_split(root: Path, *wanted: str) -> str | None:
    """The first of the `wanted` splits that `root` has; "val" also matches COCO's "val2017"."""
    found = _format_of(root)
    existing = found.splits(root) if found else []
    return next((split for start in wanted for split in existing if split.startswith(start)), None)


def spread(data: LabelledData, count: int) -> LabelledData:
    """At most `count` images, evenly spread over the data, because class folders are sorted by class."""
    total = len(data.records)
    if total <= count:
        return data
    chosen = [data.records[index * total // count] for index in range(count)]
    return replace(data, records=tuple(chosen))  # type: ignore[arg-type]


def _format_of(root: Path) -> DataFormat | None:
    """The format that recognises the data set with the strongest evidence; None when none does."""
    formats = [entry() for entry in FORMATS.entries().values()]
    for evidence in sorted({entry.evidence for entry in formats}, reverse=True):
        found = [entry for entry in formats if entry.evidence == evidence and entry.splits(root)]
        if len(found) > 1:
            titles = " and ".join(entry.title for entry in found)
            raise EffkerasError(f"{root}: holds labels as {titles}; leave those of one format there")
        if found:
            return found[0]
    return None
