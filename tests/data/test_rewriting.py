"""A data set is split anew: every class gets its share, and images that look alike stay together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effkeras.data.duplicates import Look
from effkeras.data.records import ClassificationData, ClassificationRecord
from effkeras.data.rewriting import divide, stratified
from effkeras.data.scanning import Scan
from effkeras.support.errors import EffkerasError

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def images(count: int, classes: int = 2) -> ClassificationData:
    records = tuple(ClassificationRecord(Path(f"{n}.png"), n % classes) for n in range(count))
    return ClassificationData(Path("data"), "train", tuple("abcdef"[:classes]), records)


def scans(data: ClassificationData, together: int = 1) -> dict[Path, Scan]:
    """Each `together` images in a row look alike."""
    chance = np.random.default_rng(0)
    looks = [int(chance.integers(2**62)) for _ in data.records]
    return {
        record.path: Scan(look=Look(looks[place // together], looks[place // together]))
        for place, record in enumerate(data.records)
    }


def names(division) -> list[list[str]]:
    return [[record.path.stem for record in data.records] for data in division.splits]


def test_each_image_is_in_one_split_and_each_class_has_its_share():
    data = images(200)
    division = divide(data, SHARES, scans(data), seed=0)
    assert sorted(name for split in names(division) for name in split) == sorted(map(str, range(200)))
    counts = [np.bincount([one.label for one in split.records]).tolist() for split in division.splits]
    assert counts == [[70, 70], [15, 15], [15, 15]]


def test_the_seed_decides():
    data = images(60)
    first, again, other = (names(divide(data, SHARES, scans(data), seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_images_that_look_alike_stay_on_one_side():
    data = images(90)
    division = divide(data, SHARES, scans(data, together=3), seed=0)
    assert (division.groups, division.largest) == (30, 3)
    sides = {name: side for side, split in enumerate(names(division)) for name in split}
    assert all(len({sides[str(3 * group + one)] for one in range(3)}) == 1 for group in range(30))


def test_an_image_in_two_splits_is_used_once():
    data = images(40)
    twice = ClassificationData(data.root, data.split, data.labels, data.records + data.records[:5])
    division = divide(twice, SHARES, scans(data), seed=0)
    assert division.copies == 5
    assert sum(map(len, names(division))) == 40


def test_too_few_images_are_refused():
    with pytest.raises(EffkerasError, match="too few for a split 'val'"):
        divide(images(2), SHARES, scans(images(2)), seed=0)


@given(st.integers(0, 99), st.integers(1, 6))
def test_boxes_of_every_class_are_shared_out(seed, classes):
    """No class is off by more than the boxes of one image."""
    chance = np.random.default_rng(seed)
    counts = chance.integers(0, 4, (120, classes)) * (chance.random((120, classes)) < chance.random(classes))
    chosen = stratified(counts, np.ones(120, int), [0.7, 0.15, 0.15], seed)
    rarest = counts.sum(axis=0).argmin()
    for split, share in enumerate((0.7, 0.15, 0.15)):
        got = counts[chosen == split, rarest].sum()
        assert abs(got - share * counts[:, rarest].sum()) <= 3
