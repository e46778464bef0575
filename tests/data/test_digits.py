"""The data set that ships: the same bytes every time, true boxes and masks, no scan in two splits."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from effkeras.data.digits import DigitsOptions, load_sources, split_scans, write_digits
from effkeras.data.formats.coco import read_coco
from effkeras.data.images import read_image
from effkeras.data.splits import open_data
from effkeras.support.errors import EffkerasError
from effkeras.support.replacing import PREFIX

# pycocotools' arrays predate numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SMALL = DigitsOptions(train=6, val=2, test=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "small"
    write_digits(out, SMALL)
    return out


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_same_options_give_the_same_bytes(small, tmp_path):
    """And once more gives none, but removes what a killed process had not."""
    write_digits(tmp_path / "again", SMALL)
    (tmp_path / f"{PREFIX}99999999-x").mkdir()
    write_digits(tmp_path / "again", SMALL)
    assert [one.name for one in tmp_path.iterdir()] == ["again"]
    assert contents(tmp_path / "again") == contents(small)
    write_digits(tmp_path / "other", dataclasses.replace(SMALL, seed=1))
    assert (
        contents(tmp_path / "other")["train/images/000000.jpg"] != contents(small)["train/images/000000.jpg"]
    )


@pytest.mark.parametrize("classify", [False, True])
def test_a_longer_split_begins_with_the_shorter_one(tmp_path, classify):
    short = DigitsOptions(train=3, val=1, test=1, classify=classify)
    write_digits(tmp_path / "short", short)
    write_digits(tmp_path / "long", dataclasses.replace(short, train=7))
    brief, full = contents(tmp_path / "short"), contents(tmp_path / "long")
    images = [name for name in brief if name.endswith(("jpg", "png"))]
    assert len(images) == 5
    assert all(brief[name] == full[name] for name in images)
    if not classify:
        labels = [json.loads(content["train/labels.json"])["annotations"] for content in (brief, full)]
        assert labels[1][: len(labels[0])] == labels[0]


def test_reads_back_as_coco(small):
    data = open_data(small, "train")
    assert data.labels == tuple("0123456789")
    assert [category.id for category in data.categories] == list(range(1, 11))
    assert len(data.records) == 6
    assert data.skipped == ()
    for record in data.records:
        assert read_image(record.path).shape == (128, 128, 3)
        assert 1 <= len(record.boxes) <= 8
        np.testing.assert_array_equal(record.boxes, np.rint(record.boxes))
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        np.testing.assert_array_equal(record.areas, sides.prod(1))


def test_boxes_stand_out_from_the_background(small):
    """A digit in ink of another brightness spreads the pixel values in its box."""
    for record in open_data(small, "train").records:
        grey = np.asarray(Image.open(record.path).convert("L"), np.float32)
        for top, left, bottom, right in record.boxes.astype(int):
            assert np.ptp(grey[top:bottom, left:right]) > 60


@pytest.mark.parametrize("size", [64, 256])
def test_digits_grow_with_the_image(tmp_path, size):
    write_digits(tmp_path / "out", DigitsOptions(size=size, train=12, val=1, test=1))
    boxes = np.concatenate([record.boxes for record in open_data(tmp_path / "out", "train").records])
    heights = (boxes[:, 2] - boxes[:, 0]) / size
    assert 0.06 < heights.min() < heights.max() < 0.7


def true_masks(folder, record):
    annotations = json.loads((folder / "train" / "labels.json").read_text())["annotations"]
    own = [item for item in annotations if item["image_id"] == record.image_id]
    return [coco_mask.frPyObjects(item["segmentation"], *record.size) for item in own]


@pytest.fixture(scope="module")
def run_lengths(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "rle"
    write_digits(out, dataclasses.replace(SMALL, masks="rle"))
    return out


def test_masks_leave_images_and_boxes_alone(small, run_lengths):
    ours, theirs = contents(small), contents(run_lengths)
    assert all(theirs[name] == content for name, content in ours.items() if name.endswith("jpg"))
    pairs = zip(read_coco(small, "train").records, read_coco(run_lengths, "train").records, strict=True)
    for first, second in pairs:
        np.testing.assert_array_equal(first.boxes, second.boxes)


def test_run_lengths_fit_boxes_and_areas_and_never_overlap(run_lengths):
    for record in read_coco(run_lengths, "train").records:
        encoded = true_masks(run_lengths, record)
        left, top, width, height = coco_mask.toBbox(encoded).T
        np.testing.assert_array_equal(np.stack([top, left, top + height, left + width], 1), record.boxes)
        np.testing.assert_array_equal(coco_mask.area(encoded), record.areas)
        assert coco_mask.decode(encoded).sum(2).max() == 1


def test_polygons_agree_with_run_lengths(run_lengths, tmp_path):
    write_digits(tmp_path / "out", dataclasses.replace(SMALL, masks="polygon"))
    for record in read_coco(tmp_path / "out", "train").records:
        exact = true_masks(run_lengths, record)
        for mask, polygons in zip(exact, true_masks(tmp_path / "out", record), strict=True):
            filled = ndimage.binary_fill_holes(coco_mask.decode(mask), np.ones((3, 3)))
            drawn = coco_mask.decode(coco_mask.merge(polygons)).astype(bool)
            assert (filled & drawn).sum() / (filled | drawn).sum() > 0.95


def test_every_scan_is_in_one_split():
    labels = load_sources().labels
    parts = [split_scans(labels, split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1149, 250, 398]
    assert sorted(np.concatenate(parts)) == list(range(1797))
    for part in parts:
        counts = np.bincount(labels[part], minlength=10)
        assert counts.max() - counts.min() <= 6


def test_classification_is_balanced(tmp_path):
    write_digits(tmp_path / "out", DigitsOptions(train=20, val=10, test=10, classify=True))
    data = open_data(tmp_path / "out", "train")
    assert data.labels == tuple("0123456789")
    assert np.bincount([record.label for record in data.records]).tolist() == [2] * 10
    assert read_image(data.records[0].path).shape == (32, 32, 3)


def test_what_is_there_already_stays(small, capsys):
    before = (small / "dataset.json").stat().st_mtime_ns
    write_digits(small, SMALL)
    assert "already there" in capsys.readouterr().err
    assert (small / "dataset.json").stat().st_mtime_ns == before


def test_something_else_is_never_overwritten(small, tmp_path):
    with pytest.raises(EffkerasError, match="holds other files already"):
        write_digits(small, dataclasses.replace(SMALL, seed=3))
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(EffkerasError, match="choose another folder, or remove it"):
            write_digits(taken, SMALL)


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    write_digits(tmp_path / "out", DigitsOptions(train=1, val=1, test=1))
    assert (tmp_path / "out" / "dataset.json").is_file()


@pytest.mark.parametrize(
    ("error", "seen"), [(OSError(28, "No space left"), EffkerasError), (KeyboardInterrupt,) * 2]
)
def test_half_a_data_set_never_appears(tmp_path, monkeypatch, error, seen):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(seen):
        write_digits(tmp_path / "out", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_learn_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(EffkerasError, match=r'pip install "effkeras\[demo\]"'):
        write_digits(tmp_path / "out", SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 20}, "a size of 20 pixels"),
        ({"size": 20_000}, "a size of 20000 pixels"),
        ({"val": 0}, "at least one image"),
        ({"max_digits": 0}, "hold 0 digits"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"masks": "png"}, "unknown masks 'png'"),
        ({"masks": "rle", "classify": True}, "no place for masks"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(EffkerasError, match=message):
        DigitsOptions(**options)


def test_the_size_follows_the_use():
    assert (DigitsOptions().size, DigitsOptions(classify=True).size) == (128, 32)
