"""Images with a PNG label map each, read as data for a model that only segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effkeras.data.splits import find_split, open_data
from effkeras.support.errors import EffkerasError

NAMES = "ground\nroad\ncar\n"


@pytest.fixture
def root(tmp_path) -> Path:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for name in ("b", "a"):
            Image.new("RGB", (30, 20)).save(tmp_path / split / "images" / f"{name}.jpg")
            Image.fromarray(np.ones((20, 30), np.uint8)).save(tmp_path / split / "masks" / f"{name}.png")
    (tmp_path / "labels.txt").write_text(NAMES)
    return tmp_path


def test_reads_images_and_maps(root):
    data = open_data(root, "train")
    assert data.labels == ("road", "car")
    assert [category.id for category in data.categories] == [1, 2]
    assert [record.path.name for record in data.records] == ["a.jpg", "b.jpg"]
    first = data.records[0]
    assert (first.size, first.boxes.shape, first.masks) == ((20, 30), (0, 4), root / "train/masks/a.png")
    assert find_split(root, "val") == "val"


def refused(root: Path, message: str, split: str = "train") -> None:
    with pytest.raises(EffkerasError, match=message):
        open_data(root, split)


def test_a_missing_split_lists_the_others(root):
    refused(root, "no split 'test'; splits found: train, val; layout: SPLIT/images", "test")


def test_the_class_list_is_needed(root):
    (root / "labels.txt").write_text("ground\n")
    refused(root, "two classes or more, the background first")
    (root / "labels.txt").unlink()
    refused(root, r"labels\.txt is missing; write the classes")


def test_every_image_needs_its_map(root):
    (root / "train" / "masks" / "b.png").unlink()
    refused(root, r"1 of 2 images have no label map, first .*b\.png")


def test_a_damaged_map_is_named(root):
    (root / "train" / "masks" / "b.png").write_bytes(b"no image")
    refused(root, r"b\.png: not a label map that Pillow can read")


def test_no_images_at_all(root):
    for path in (root / "train" / "images").iterdir():
        path.unlink()
    refused(root, "there are no images")


def test_class_folders_stay_class_folders(tmp_path, digit_classes):
    """Folders called images and masks beside others are classes like any other."""
    for name in ("images", "masks", "others"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / name / "a.png")
    assert open_data(tmp_path, "train").labels == ("images", "masks", "others")
