"""A check lists every problem of a data set, and its repaired copy has none of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data_sets import REAL, needs_bccd
from support.voc_sets import write_image, write_voc

from effkeras.data import checking, scanning
from effkeras.data.checking import check, doubles, repaired
from effkeras.data.records import ReadOptions
from effkeras.data.rewriting import write_whole
from effkeras.data.statistics import Boxes
from effkeras.detection.boxes import iou
from effkeras.support.errors import EffkerasError

CAT, DOG = ("cat", 10, 8, 40, 32), ("dog", 2, 2, 20, 40)
OPTIONS = ReadOptions(skip_bad=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def found(root: Path, **options) -> dict[str, list[str]]:
    """Where the findings of each kind are."""
    report = check(root, OPTIONS, **options)
    return {kind.key: [one.where for one in items] for kind, items in report.by_kind().items()}


@pytest.fixture
def pets(tmp_path) -> Path:
    return write_voc(tmp_path / "pets", {"train": {"a": [CAT, DOG], "b": [CAT]}, "val": {"c": [CAT]}})


def image(root: Path, name: str) -> Path:
    return root / "JPEGImages" / f"{name}.jpg"


def test_nothing_is_found_where_nothing_is_wrong(pets):
    assert found(pets) == {}
    assert found(pets, decode=False) == {}


def test_everything_wrong_is_found_at_once(pets):
    write_voc(
        pets,
        {
            "train": {
                "a": [CAT, DOG, ("dog", 2, 2, 20, 41)],
                "b": [CAT, ("cat", 5, 5, 5, 5)],
                "over": [("cat", 10, 10, 70, 30)],
                "thin": [("cat", 10, 10, 11, 40)],
                "empty": [],
                "broken": [CAT],
                "lost": [CAT],
                "copy": [CAT],
            },
            "val": {"c": [CAT], "same": [("Cow", 1, 1, 20, 20), ("cow", 1, 1, 20, 20)]},
        },
    )
    write_voc(pets, {"scaled": {"s": [CAT]}, "turned": {"t": [CAT]}}, size=(32, 24), stated=(64, 48))
    write_voc(pets, {"turned": {"t": [CAT]}}, size=(48, 64), stated=(64, 48))
    image(pets, "lost").unlink()
    image(pets, "broken").write_bytes(image(pets, "broken").read_bytes()[:600])
    shutil.copy(image(pets, "a"), image(pets, "same"))
    shutil.copy(image(pets, "b"), image(pets, "copy"))
    assert found(pets) == {
        "image": ["lost.xml", "JPEGImages/broken.jpg"],
        "annotation": ["b.xml: object 2 ('cat')"],
        "shape": ["JPEGImages/t.jpg"],
        "scaled": ["JPEGImages/s.jpg"],
        "clipped": ["over.xml: object 1 ('cat')"],
        "double": ["JPEGImages/a.jpg: 'dog'"],
        "thin": ["JPEGImages/thin.jpg: 'cat'"],
        "names": ["'Cow' and 'cow'"],
        "untrained": ["'Cow'", "'cow'"],
        "leak": ["JPEGImages/a.jpg"],
        "copy": ["JPEGImages/b.jpg"],
        "empty": ["JPEGImages/empty.jpg"],
    }


def test_images_that_look_alike_are_found_in_and_across_splits(pets):
    write_voc(pets, {"val": {"c": [CAT], "d": [CAT], "e": [CAT]}})
    for name, seed in (("d", "a"), ("e", "c")):
        write_image(image(pets, name), seed=seed)
        with image(pets, name).open("ab") as file:
            file.write(b"other bytes at the end")
    assert found(pets) == {"alike-leak": ["JPEGImages/a.jpg"], "alike": ["JPEGImages/c.jpg"]}


def test_a_split_that_repeats_others_is_not_a_leak(pets):
    names = ("train", "val")
    text = "".join((pets / f"ImageSets/Main/{name}.txt").read_text() for name in names)
    (pets / "ImageSets/Main/all.txt").write_text(text)
    assert found(pets) == {"union": ["all"]}
    (pets / "ImageSets/Main/more.txt").write_text("a\n")
    assert found(pets)["leak"] == ["JPEGImages/a.jpg"]


def test_a_split_that_cannot_be_read_is_a_finding(pets):
    write_voc(pets, {"test": {"z": [("cat", 1, 1, 1, 1)]}})
    assert list(found(pets)) == ["split"]
    shutil.rmtree(pets / "JPEGImages")
    with pytest.raises(EffkerasError, match="no split can be read"):
        check(pets, OPTIONS)


def test_the_repaired_copy_has_no_problems(pets, tmp_path):
    write_voc(
        pets, {"train": {"a": [CAT, DOG, DOG, ("cat", 30, 30, 90, 40)], "b": [CAT, ("cat", 5, 5, 5, 5)]}}
    )
    write_voc(pets, {"train": {"a": [], "b": [], "s": [CAT], "x": [CAT]}}, size=(32, 24), stated=(64, 48))
    write_voc(
        pets, {"train": {"a": [CAT, DOG, DOG, ("cat", 30, 30, 90, 40)], "b": [CAT, ("cat", 5, 5, 5, 5)]}}
    )
    lines = "a\nb\ns\nx\n"
    (pets / "ImageSets/Main/train.txt").write_text(lines)
    image(pets, "x").write_bytes(b"")
    report = check(pets, OPTIONS)
    assert report.has_problems
    write_whole(tmp_path / "fixed", repaired(report), "voc")
    assert found(tmp_path / "fixed") == {}
    fixed = check(tmp_path / "fixed", OPTIONS).splits[0]
    boxes = {one.path.stem: one.boxes.tolist() for one in fixed.records}
    assert boxes["s"] == [[4, 5, 16, 20]]
    assert len(boxes["a"]) == 3
    assert "x" not in boxes


def test_a_second_check_decodes_only_what_changed(pets, monkeypatch):
    check(pets, OPTIONS)
    write_image(image(pets, "c"), seed="new")
    decoded = []

    def noted(path: Path) -> object:
        decoded.append(path.name)
        return original(path)

    original = scanning.decode_image
    monkeypatch.setattr(scanning, "decode_image", noted)
    check(pets, OPTIONS)
    assert decoded == ["c.jpg"]


def test_a_damaged_cache_is_ignored(pets, cache):
    check(pets, OPTIONS)
    (file,) = cache.rglob("*.jsonl")
    file.write_bytes(b'\xff{"\n[1]\nnull\n' + file.read_bytes()[5:-9])
    assert found(pets) == {}


boxes_of_an_image = st.lists(
    st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(25, 40)] * 2, st.integers(0, 1)), max_size=8
)


@given(st.lists(boxes_of_an_image, max_size=3), st.sampled_from([0.5, 0.9]))
def test_all_pairs_of_one_object_are_found(images, overlap):
    """Against the IoU of every pair."""
    rows = [(place, *box) for place, boxes in enumerate(images) for box in boxes]
    table = np.array(rows, np.float64).reshape(-1, 6)
    corners = table[:, [1, 2]], table[:, [1, 2]] + table[:, [3, 4]]
    boxes = np.concatenate(corners, axis=1).astype(np.float32)
    labels, places = table[:, 5].astype(int), table[:, 0].astype(int)
    own = Boxes(boxes, places, labels, np.ones(len(rows)), np.zeros(len(rows), bool), np.ones((3, 2)))
    wanted = [
        (first, second)
        for first in range(len(rows))
        for second in range(first + 1, len(rows))
        if (places[first], labels[first]) == (places[second], labels[second])
        and iou(boxes[first], boxes[second][None])[0] > overlap
    ]
    assert doubles(own, overlap) == wanted


def test_every_kind_has_its_place_in_the_order():
    kinds = [one for one in vars(checking).values() if isinstance(one, checking.Kind)]
    assert sorted(one.key for one in kinds) == sorted(one.key for one in checking._ORDER)


@needs_bccd
def test_bccds_bad_boxes_are_named():
    result = found(REAL / "bccd")
    assert result["annotation"] == [
        "BloodImage_00343.xml: object 4 ('RBC')",
        "BloodImage_00338.xml: object 13 ('RBC')",
    ]
    assert set(result) == {"annotation", "alike-leak"}
