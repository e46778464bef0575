"""Where COCO's label files and their images are found."""

from __future__ import annotations

import json

import pytest

from effkeras.data.formats.coco import Coco, read_coco
from effkeras.data.formats.coco_layout import find_sources
from effkeras.data.splits import open_data

CONTENT = {
    "info": {"description": "set"},
    "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 30}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 1, "name": "cat"}],
}


def write(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


# label file, image, what is given as --data, the split
LAYOUTS = {
    "ours": ("val/labels.json", "val/images/a.jpg", ".", "val"),
    "roboflow": ("valid/_annotations.coco.json", "valid/a.jpg", ".", "valid"),
    "roboflow, not split": ("_annotations.coco.json", "a.jpg", ".", "train"),
    "official": ("annotations/instances_val2017.json", "val2017/a.jpg", ".", "val2017"),
    "official, nested": ("annotations/instances_val2017.json", "images/val2017/a.jpg", ".", "val2017"),
    "cvat": ("annotations/instances_default.json", "images/a.jpg", ".", "train"),
    "cvat, newer": ("annotations/instances_default.json", "images/default/a.jpg", ".", "train"),
    "cvat, subset": ("annotations/instances_Validation.json", "images/Validation/a.jpg", ".", "Validation"),
    "label studio": ("result.json", "images/a.jpg", ".", "train"),
    "any name": ("cats.json", "images/a.jpg", ".", "train"),
    "named like a split": ("coco_test.json", "test/a.jpg", ".", "test"),
    "in annotations": ("annotations/train.json", "train/a.jpg", ".", "train"),
    "a file": ("cats.json", "a.jpg", "cats.json", "train"),
    "a file by images": ("cats.json", "images/a.jpg", "cats.json", "train"),
    "a file by its folder": ("cats.json", "cats/a.jpg", "cats.json", "train"),
    "a file, split beside its folder": ("labels/val.json", "val/a.jpg", "labels/val.json", "val"),
    "a file, split in images": ("labels/val.json", "images/val/a.jpg", "labels/val.json", "val"),
    "a file of our layout": ("test/labels.json", "test/images/a.jpg", "test/labels.json", "test"),
    "an official file": (
        "annotations/instances_train2017.json",
        "images/train2017/a.jpg",
        "annotations/instances_train2017.json",
        "train2017",
    ),
}


@pytest.mark.parametrize(("labels", "image", "given", "split"), LAYOUTS.values(), ids=LAYOUTS)
def test_labels_and_images_are_found(tmp_path, labels, image, given, split):
    write(tmp_path / labels)
    touch(tmp_path / image)
    assert Coco().splits(tmp_path / given) == [split]
    (record,) = read_coco(tmp_path / given, split).records
    assert record.path == tmp_path / image


def test_several_files_of_any_name_are_splits(tmp_path):
    for name in ("my_train", "my_val"):
        write(tmp_path / f"{name}.json")
    touch(tmp_path / "images" / "a.jpg")
    assert Coco().splits(tmp_path) == ["train", "val"]
    assert len(open_data(tmp_path, "val").records) == 1


def test_files_of_one_split_keep_their_names(tmp_path):
    write(tmp_path / "train_a.json")
    write(tmp_path / "train_b.json")
    assert Coco().splits(tmp_path) == ["train_a", "train_b"]


def test_file_names_may_start_at_the_folder_of_the_labels(tmp_path):
    content = {**CONTENT, "images": [{**CONTENT["images"][0], "file_name": "images\\sub\\a.jpg"}]}
    write(tmp_path / "result.json", content)
    touch(tmp_path / "images" / "sub" / "a.jpg")
    assert len(read_coco(tmp_path, "train").records) == 1


def test_the_folder_of_the_split_comes_before_others(tmp_path):
    write(tmp_path / "annotations" / "instances_val.json")
    touch(tmp_path / "images" / "a.jpg")
    touch(tmp_path / "val" / "a.jpg")
    assert read_coco(tmp_path, "val").records[0].path == tmp_path / "val" / "a.jpg"


OTHERS = {
    "labelme": {"version": "5", "flags": {}, "shapes": [], "imagePath": "a.jpg"},
    "a list": [1, 2],
    "another object": {"name": "package", "images": {}},
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_other_json_files_are_not_ours(tmp_path, content):
    write(tmp_path / "a.json", content)
    assert Coco().splits(tmp_path) == Coco().splits(tmp_path / "a.json") == []


def test_files_for_other_tasks_are_not_ours(tmp_path):
    write(tmp_path / "annotations" / "captions_val2017.json")
    assert find_sources(tmp_path) == {}
    write(tmp_path / "annotations" / "person_keypoints_val2017.json")
    assert list(find_sources(tmp_path)) == ["val2017"]


def test_a_folder_of_many_json_files_is_not_opened(tmp_path):
    for number in range(21):
        write(tmp_path / f"{number}.json")
    assert Coco().splits(tmp_path) == []


def test_what_is_not_there_has_no_splits(tmp_path):
    assert Coco().splits(tmp_path / "none") == Coco().splits(tmp_path / "none.json") == []
