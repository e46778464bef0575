"""Splits a data set anew: seeded, stratified over the classes, images that look alike on one side.

The stratification is iterative: Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label
data" (ECML PKDD 2011), with the number of boxes of a class in place of a label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effkeras.data.duplicates import alike
from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData
from effkeras.data.scanning import Scan
from effkeras.support.errors import EffkerasError

Record = DetectionRecord | ClassificationRecord


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
