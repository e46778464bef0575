"""Data sets are recognised by what lies in their folder."""

from __future__ import annotations

import json
import shutil

import pytest

from effkeras.data.records import ClassificationData, DetectionData
from effkeras.data.splits import TooFewImagesError, find_split, open_data
from effkeras.support.errors import EffkerasError

LABELS = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 3]},
    ],
    "categories": [{"id": 1, "name": "cat"}],
}


def test_coco_is_recognised(tmp_path):
    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "val" / "images" / "a.jpg").touch()
    (tmp_path / "val" / "labels.json").write_text(json.dumps(LABELS))
    data = open_data(tmp_path, "val", skip_bad=True)
    assert isinstance(data, DetectionData)
    assert len(data.skipped) == 1
    with pytest.raises(EffkerasError, match="--skip-bad"):
        open_data(tmp_path, "val")
    with pytest.raises(EffkerasError, match="no split 'train'; splits found: val"):
        open_data(tmp_path, "train")


def test_official_coco_is_recognised(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017" / "a.jpg").touch()
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(LABELS))
    assert isinstance(open_data(tmp_path, "train", skip_bad=True), DetectionData)


def test_splits_may_be_named_in_capitals(tmp_path):
    (tmp_path / "Test" / "images").mkdir(parents=True)
    (tmp_path / "Test" / "images" / "a.jpg").touch()
    (tmp_path / "Test" / "labels.json").write_text(json.dumps(LABELS))
    assert find_split(tmp_path, "test") == "Test"
    assert open_data(tmp_path, "test", skip_bad=True).split == "Test"


def test_a_folder_per_class_is_recognised(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "a.png").touch()
    assert isinstance(open_data(str(tmp_path), "train"), ClassificationData)


@pytest.mark.parametrize("lost", ["", "train/images", "a.png"])
def test_neither_is_an_error(tmp_path, lost):
    (tmp_path / lost).mkdir(parents=True, exist_ok=True)
    with pytest.raises(EffkerasError, match=r"no data set that can be read.*SPLIT/CLASS.*labels\.json"):
        open_data(tmp_path, "train")


def test_lost_coco_labels_are_not_taken_for_a_class(tmp_path):
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "train" / "images" / "a.jpg").touch()
    with pytest.raises(EffkerasError, match=r"train/labels\.json is missing"):
        open_data(tmp_path, "train")


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(EffkerasError, match="there is no such data folder or file; check the path"):
        open_data(tmp_path / "none", "train")


def class_folder(root, split, classes, images):
    for name in classes:
        (root / split / name).mkdir(parents=True)
        for number in range(images):
            (root / split / name / f"{name}{number}.png").touch()
    return root


def test_a_set_without_val_holds_a_tenth_of_each_class_out(tmp_path, capsys):
    root = class_folder(tmp_path, "train", ("cat", "dog"), 20)
    validation, train = open_data(root, "val"), open_data(root, "train")
    assert find_split(root, "val") == "val"
    assert sorted(record.label for record in validation.records) == [0, 0, 1, 1]
    paths = {record.path for record in train.records}
    assert len(paths) == 36
    assert paths.isdisjoint(record.path for record in validation.records)
    assert "has no split val: 4 of the 40 images of train are held out" in capsys.readouterr().err


def test_a_held_out_image_stays_held_out_when_others_come(tmp_path):
    root = class_folder(tmp_path, "train", ("cat",), 20)
    before = {record.path for record in open_data(root, "val").records}
    for number in range(20, 40):
        (root / "train" / "cat" / f"cat{number}.png").touch()
    after = {record.path for record in open_data(root, "train").records}
    assert len(before & after) <= 1  # the tenth of more images has other bounds


def test_a_set_with_val_gives_all_of_train(tmp_path):
    root = class_folder(tmp_path, "train", ("cat",), 20)
    class_folder(root, "valid", ("cat",), 3)
    assert len(open_data(root, "train").records) == 20
    assert len(open_data(root, "val").records) == 3


def test_one_image_cannot_be_held_out(tmp_path):
    root = class_folder(tmp_path, "train", ("cat",), 1)
    with pytest.raises(TooFewImagesError, match="1 image is too few to hold some out; add a split val"):
        open_data(root, "val")
    assert len(open_data(root, "train").records) == 1


def test_an_empty_val_is_not_replaced_silently(digit_classes, tmp_path):
    shutil.copytree(digit_classes / "train", tmp_path / "train")
    (tmp_path / "val" / "1").mkdir(parents=True)
    for split in ("train", "val"):
        with pytest.raises(EffkerasError, match="val has no images; add some, or remove the folder"):
            open_data(tmp_path, split)
    shutil.rmtree(tmp_path / "val")
    assert len(open_data(tmp_path, "val").records) > 0


def test_two_splits_with_one_beginning_are_refused(tmp_path):
    for name in ("val2014", "val2017"):
        class_folder(tmp_path, name, ("cat",), 2)
    with pytest.raises(EffkerasError, match="'val' could be val2014 or val2017; keep one of them"):
        find_split(tmp_path, "val")
    assert len(open_data(tmp_path, "val2017").records) == 2
