"""Writes a data set anew: corrected to the real sizes of its images, in another format, or split anew.

It is read whole. A new split is seeded and stratified over the classes, and images that look alike are on one
side of it. The stratification is iterative: Sechidis, Tsoumakas and Vlahavas, "On the stratification of
multi-label data" (ECML PKDD 2011), with the number of boxes of a class in place of a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effkeras.data.all_splits import read_all
from effkeras.data.duplicates import alike
from effkeras.data.formats import writable
from effkeras.data.records import (
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
    LabelledData,
    ReadOptions,
    Skipped,
)
from effkeras.data.scanning import Scan
from effkeras.data.sizes import Resized, header_sizes, in_real_sizes
from effkeras.data.splits import format_of
from effkeras.support import files
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError
from effkeras.support.replacing import remove_strays

Record = DetectionRecord | ClassificationRecord


def check_target(folder: Path, source: Path) -> None:
    """Raises EffkerasError unless `folder` can be written: it is new or empty, and not inside `source`.

    What killed processes left unfinished beside it is removed.
    """
    remove_strays(folder.absolute().parent)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise EffkerasError(f"{folder} exists already and is not an empty folder; choose another")
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise EffkerasError(f"{folder} lies inside the data set {source}; choose a folder outside it")
    files.check_can_make(folder)


def read_to_rewrite(root: Path, options: ReadOptions) -> tuple[LabelledData, ...]:
    """All splits of the data set in `root`, with boxes in pixels of the image files.

    Raises:
        EffkerasError: the data set cannot be read; or the labels state another shape than the image file has,
            or an image is unreadable, unless `options.skip_bad` leaves these images out.
    """
    splits = read_all(root, options)
    paths = [one.path for data in splits if isinstance(data, DetectionData) for one in data.records]
    sizes = header_sizes(paths) if paths else {}
    return tuple(
        _resized(data, in_real_sizes(data, sizes), options) if isinstance(data, DetectionData) else data
        for data in splits
    )


def _resized(data: DetectionData, resized: Resized, options: ReadOptions) -> DetectionData:
    where, total = f"{data.root}: the split {data.split!r}", len(data.records)
    if resized.scaled:
        note_once(
            f"{where}: scaled the boxes of {len(resized.scaled)} of {total} images to the size of their "
            f"files; the first: {resized.scaled[0]}"
        )
    if not resized.refused:
        return resized.data
    first = resized.refused[0]
    what = f"{where}: {len(resized.refused)} of {total} images cannot be used; the first: {first.what}: "
    if not options.skip_bad:
        raise EffkerasError(f"{what}{first.why}; correct them, or leave them out with --skip-bad")
    note_once(f"{what}{first.why}")
    return with_more_skipped(resized.data, resized.refused)


def with_more_skipped(data: DetectionData, more: Sequence[Skipped]) -> DetectionData:
    """The split with more items in `.skipped`."""
    return replace(data, skipped=(*data.skipped, *more))


def without_broken(data: LabelledData, scans: Mapping[Path, Scan], *, skip_bad: bool) -> LabelledData:
    """The split without the images that cannot be decoded. Raises EffkerasError for any if not `skip_bad`."""
    broken = [
        Skipped(str(record.path), scans[record.path].problem, is_image=True)
        for record in data.records
        if scans[record.path].problem
    ]
    if not broken:
        return data
    what = (
        f"{data.root}: {len(broken)} images cannot be decoded; the first: {broken[0].what}: {broken[0].why}"
    )
    if not skip_bad:
        raise EffkerasError(f"{what}, or leave them out with --skip-bad")
    note_once(what)
    good = tuple(record for record in data.records if not scans[record.path].problem)
    return replace(data, records=good, skipped=(*data.skipped, *broken))  # type: ignore[arg-type]


def format_to_write(root: Path, splits: Sequence[LabelledData]) -> str:
    """The name of the format of the data set in `root` if it can be written, else of a similar one."""
    own = type(format_of(root))
    similar = "coco" if isinstance(splits[0], DetectionData) else "class-folders"
    return next((name for name, entry in writable().items() if entry is own), similar)


def write_whole(folder: Path, splits: Sequence[LabelledData], to: str) -> None:
    """Writes splits in the format `to` into `folder`, which appears whole or not at all.

    Splits without images are left out. Raises EffkerasError for data that the format cannot hold, and when a
    file cannot be written.
    """
    entry = writable()[to]
    with files.whole_folder(folder) as fresh:
        entry().write(fresh, [data for data in splits if data.records])
    lost = 0 if entry.marks_unknown else _unknown_regions(splits)
    if lost:
        note_once(
            f"{folder}: {lost} objects whose annotations were left out look like background there; correct "
            "the annotations first to keep them"
        )


def _unknown_regions(splits: Sequence[LabelledData]) -> int:
    """The regions of left-out annotations; those of an image in several splits count once."""
    boxes = [data for data in splits if isinstance(data, DetectionData)]
    return sum({one.path: len(one.unknown) for data in boxes for one in data.records}.values())


@dataclass(frozen=True, slots=True)
class Division:
    """The new splits; `copies` and `groups` count images that occurred twice, and groups that look alike."""

    splits: tuple[LabelledData, ...]
    copies: int
    groups: int
    largest: int


def divide(
    data: LabelledData, shares: Mapping[str, float], scans: Mapping[Path, Scan], seed: int
) -> Division:
    """Divides a split into several.

    Args:
        data: all images.
        shares: the share of images and boxes that each new split gets, by name; they add up to 1.
        scans: what decoding gave for each record's path.
        seed: another seed gives other splits.

    Raises:
        EffkerasError: a split would have no image.
    """
    by_path: dict[Path, Record] = {}
    for record in data.records:
        by_path.setdefault(record.path, record)
    unique = list(by_path.values())
    together = alike([scans[record.path].look for record in unique])
    units = _units(len(unique), together)
    counts = class_counts(unique, len(data.labels))
    per_unit = np.stack([counts[unit].sum(axis=0) for unit in units])
    chosen = stratified(per_unit, np.array([len(unit) for unit in units]), list(shares.values()), seed)
    splits = []
    for number, name in enumerate(shares):
        own = sorted(
            place for unit, split in zip(units, chosen, strict=True) if split == number for place in unit
        )
        if not own:
            raise EffkerasError(
                f"{data.root}: {len(units)} different images are too few for a split {name!r} of "
                f"{shares[name]:.0%}; give it a larger share, or 0"
            )
        records = tuple(unique[place] for place in own)
        splits.append(replace(data, split=name, records=records, skipped=()))  # type: ignore[arg-type]
    largest = max(map(len, together), default=1)
    return Division(tuple(splits), len(data.records) - len(unique), len(together), largest)


def class_counts(records: Sequence[Record], classes: int) -> np.ndarray:
    """The number of boxes of each class in each image, int64 (images, classes); 0 or 1 without boxes."""
    counts = np.zeros((len(records), classes), np.int64)
    for row, record in zip(counts, records, strict=True):
        if isinstance(record, ClassificationRecord):
            row[record.label] = 1
        else:
            np.add.at(row, record.classes, 1)
    return counts


def _units(count: int, groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """What is assigned as a whole: the groups, and each of the other images alone."""
    grouped = {place for group in groups for place in group}
    alone = [[place] for place in range(count) if place not in grouped]
    return sorted([*alone, *map(list, groups)])


def stratified(counts: np.ndarray, images: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """The split of each unit, int64 (units,).

    The rarest class goes first. Each of its units goes to the split that still lacks most of this class, or,
    at a tie, most images.

    Args:
        counts: boxes of each class in each unit, int (units, classes).
        images: images in each unit, int (units,).
        shares: the share of each split.
        seed: the order of equal units.
    """
    chance = np.random.default_rng(seed)
    wanted = np.array(shares)
    lack = wanted[:, None] * counts.sum(axis=0)  # (splits, classes)
    lack_images = wanted * images.sum()
    chosen = np.full(len(counts), -1)
    rarest_first = np.argsort(counts.sum(axis=0), kind="stable")
    # Of the units with a class those with the most of it go first; the last step takes those without boxes.
    for keys, lacking in [*((counts[:, c], lack[:, c]) for c in rarest_first), (images, lack_images)]:
        open_units = np.flatnonzero((chosen < 0) & (keys > 0))
        shuffled = chance.permutation(open_units)
        for unit in shuffled[np.argsort(-keys[shuffled], kind="stable")]:
            best = _neediest(lacking, lack_images)
            chosen[unit] = best
            lack[best] -= counts[unit]
            lack_images[best] -= images[unit]
    return chosen


def _neediest(lacking: np.ndarray, lack_images: np.ndarray) -> int:
    """The split with the largest lack; of equal ones the one that lacks most images."""
    return int(np.lexsort((lack_images, lacking))[-1])
