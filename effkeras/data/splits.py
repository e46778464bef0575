"""Opens a data set of any registered format; each format recognises its own data by content."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from effkeras.data.classes import used_classes
from effkeras.data.formats import FORMATS, DataFormat
from effkeras.data.images import images_below, subfolders
from effkeras.data.records import ClassificationRecord, DetectionData, LabelledData, ReadOptions
from effkeras.definitions.class_names import checked_class_name
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import without_garbage_collection

TRAIN, VALIDATION, TEST = "train", "val", "test"
HELD_OUT = 0.1  # the share of train that serves as val where a set has none


class TooFewImagesError(EffkerasError):
    """A set without a split val has only one image, so that none can be held out."""


def check_exists(root: Path) -> None:
    """Raises EffkerasError when the data folder or file does not exist."""
    if not root.exists() and not any(entry().exists(root) for entry in FORMATS.entries().values()):
        raise EffkerasError(f"{root}: there is no such data folder or file; check the path")


def open_data(
    root: Path, split: str, *, skip_bad: bool = False, masks: bool = False, one_based: bool = False
) -> LabelledData:
    """Reads one split of the data set in `root`, a folder or file of any known format.

    What was left out or clipped is counted and noted once. Where a set has no split val, a tenth of the split
    train is held out for it: always the same images, which train then lacks.

    Args:
        root: the folder or file.
        split: the split's name; "val" also finds "valid" and COCO's "val2017".
        skip_bad: leave out bad annotations and images and list them in `.skipped`, instead of failing at the
            first.
        masks: read the masks of annotations too, for a model that segments.
        one_based: the corners xmin and ymin of Pascal VOC files count pixels from 1.

    Raises:
        EffkerasError: folder, format or split is missing, or the labels are bad.
    """
    return read_split(root, split, ReadOptions(skip_bad=skip_bad, masks=masks, one_based=one_based))


def read_split(root: Path, split: str, options: ReadOptions) -> LabelledData:
    """`open_data` with its options in one record."""
    root = Path(root)
    check_exists(root)
    found = format_of(root)
    source = _source(found, root, split)
    with without_garbage_collection():
        data = replace(found.read(root, source.split, options), options=options)
    if source.part is not None:
        data = _part(data, source.part)
    _check_names(data)
    note_left_out(data)
    return data


def _check_names(data: LabelledData) -> None:
    """Raises EffkerasError for an unfit name of a class that is used."""
    try:
        for label in used_classes(data):
            checked_class_name(data.labels[label])
    except EffkerasError as error:
        raise EffkerasError(f"{data.root}: the split {data.split!r}: {error}") from error


def find_split(root: Path, *wanted: str) -> str | None:
    """The first of the `wanted` splits that `root` has; "val" also matches COCO's "val2017".

    "val" is there as well where it is held out from train. None for an unknown format.
    """
    found = _recognised(Path(root))
    existing = found.splits(root) if found else []
    for start in wanted:
        named = _starting(existing, start)
        if named is not None:
            return named
        if start == VALIDATION and _starting(existing, TRAIN) is not None:
            return VALIDATION
    return None


def default_split(root: Path) -> str:
    """The split to report on where none is chosen: test; val, with a note, where there is none."""
    test, validation = find_split(root, TEST), find_split(root, VALIDATION)
    if test is None and validation is not None:
        note_once(f"{root} has no split test: measuring on {validation}")
    return test or validation or TEST


def note_left_out(data: LabelledData) -> None:
    """Notes how many items of a split were left out and how many boxes clipped, with the first of each."""
    where = f"{data.root}: the split {data.split!r}"
    if data.skipped:
        first = data.skipped[0]
        note_once(f"{where}: left out {len(data.skipped)}; the first: {first.what}: {first.why}")
    clipped = data.clipped if isinstance(data, DetectionData) else ()
    if clipped:
        note_once(
            f"{where}: clipped {len(clipped)} boxes that reach beyond their images; the first: {clipped[0]}"
        )


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a split's images come from: a split of the format, or the held-out or remaining part of it."""

    split: str
    part: Literal["held out", "rest"] | None = None


def _source(found: DataFormat, root: Path, split: str) -> _Source:
    existing = found.splits(root)
    has_validation = any(one.casefold().startswith(VALIDATION) for one in existing)
    train = None if has_validation else _starting(existing, TRAIN)
    if train is not None:
        _check_no_empty_validation(root)
        if split == VALIDATION:
            return _Source(train, "held out")
        if split in (TRAIN, train):
            return _Source(train, "rest")
    return _Source(split if split in existing else _starting(existing, split) or split)


def _check_no_empty_validation(root: Path) -> None:
    """Raises EffkerasError for a folder val without images: a part of train must not silently replace it."""
    for folder in subfolders(root):
        if folder.name.lower().startswith(VALIDATION) and not images_below(folder).images:
            raise EffkerasError(
                f"{folder} has no images; add some, or remove the folder: then a tenth of train is held out"
            )


def _starting(existing: Iterable[str], start: str) -> str | None:
    """The split of that name, else the one with that beginning, in capitals or not.

    Raises EffkerasError when several have it, such as val2014 and val2017.
    """
    names = sorted(existing)
    fitting = [one for one in names if one.casefold().startswith(start.casefold())]
    if start in names:
        return start
    if len(fitting) > 1:
        raise EffkerasError(
            f"the split {start!r} could be {' or '.join(fitting)}; keep one of them in the folder"
        )
    return fitting[0] if fitting else None


def _part(data: LabelledData, part: str) -> LabelledData:
    """The held-out tenth of a split, or the rest; each class of images gives its tenth."""
    held = set(held_out(data))
    total, wanted = len(data.records), part == "held out"
    if not held:
        if wanted:
            raise TooFewImagesError(
                f"{data.root}: {total} image is too few to hold some out; add a split val"
            )
        return data
    note_once(
        f"{data.root} has no split val: {len(held)} of the {total} images of {data.split} are held out for it"
    )
    chosen = [one for place, one in enumerate(data.records) if (place in held) == wanted]
    split = VALIDATION if wanted else data.split
    return replace(data, records=tuple(chosen), split=split)  # type: ignore[arg-type]


def held_out(data: LabelledData) -> list[int]:
    """The positions of the records that are held out as val: a tenth, chosen by a hash of the file name.

    The hashes order the files, so that few of them change sides when others come or go. Of classified images,
    each class gives its tenth.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for position, record in enumerate(data.records):
        groups[record.label if isinstance(record, ClassificationRecord) else 0].append(position)

    def rank(position: int) -> str:
        return hashlib.sha256(data.records[position].path.name.encode(errors="replace")).hexdigest()

    chosen: list[int] = []
    for group in groups.values():
        chosen += sorted(group, key=rank)[: round(len(group) * HELD_OUT)]
    if not chosen and len(data.records) > 1:
        chosen = [min(range(len(data.records)), key=rank)]
    return sorted(chosen)


def spread(data: LabelledData, count: int) -> LabelledData:
    """At most `count` images, evenly spread over the data, because class folders are sorted by class."""
    total = len(data.records)
    if total <= count:
        return data
    chosen = [data.records[index * total // count] for index in range(count)]
    return replace(data, records=tuple(chosen))  # type: ignore[arg-type]


def format_of(root: Path) -> DataFormat:
    """The format of the data set in `root`. Raises EffkerasError when none recognises it."""
    found = _recognised(root)
    if found is None:
        known = "; ".join(f"{entry.title} ({entry.layout})" for entry in FORMATS.entries().values())
        raise EffkerasError(f"{root}: no data set that can be read; known formats: {known}")
    return found


def _recognised(root: Path) -> DataFormat | None:
    """The format that recognises the data set with the strongest evidence; None when none does."""
    formats = [entry() for entry in FORMATS.entries().values()]
    for evidence in sorted({entry.evidence for entry in formats}, reverse=True):
        found = [entry for entry in formats if entry.evidence == evidence and entry.splits(root)]
        if len(found) > 1:
            titles = " and ".join(entry.title for entry in found)
            raise EffkerasError(
                f"{root}: holds labels as {titles}; leave those of one format there, or give a label file"
            )
        if found:
            return found[0]
    return None
