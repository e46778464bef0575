"""A folder per class: round trips, the order of classes, and what bad folders say."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.data_sets import data_set

from effkeras.data.formats.class_folders import ClassFolders, read_folder, read_labels, write_folder
from effkeras.data.images import read_image
from effkeras.data.splits import open_data
from effkeras.support.errors import EffkerasError

CASES = Path(__file__).parents[4] / "shared" / "cases"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(data):
    return [(record.path.name, data.labels[record.label]) for record in data.records]


def test_what_is_written_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    write_folder(tmp_path, "train", ("newt", "cat"), [("cat", pixels), ("newt", 255 - pixels)])
    data = read_folder(tmp_path, "train")
    assert data.labels == ("newt", "cat")
    assert names(data) == [("000000.png", "cat"), ("000001.png", "newt")]
    np.testing.assert_array_equal(read_image(data.records[0].path), pixels)


def test_classes_come_in_natural_order_over_all_splits(tmp_path):
    touch(tmp_path, "train/10/a.png", "train/9/a.JPG", "val/b2/a.webp", "val/9/a.bmp")
    assert read_folder(tmp_path, "train").labels == ("9", "10", "b2")
    assert names(read_folder(tmp_path, "val")) == [("a.bmp", "9"), ("a.webp", "b2")]


def test_labels_txt_fixes_the_order(tmp_path):
    touch(tmp_path, "val/cat/a.png")
    (tmp_path / "labels.txt").write_text("newt\n\ncat\n")
    assert read_folder(tmp_path, "val").labels == ("newt", "cat")
    assert read_folder(tmp_path, "val").records[0].label == 1


def test_a_set_without_splits_is_one_split(tmp_path):
    """Even where one of the classes is called train."""
    touch(tmp_path, "car/a.jpg", "bus/2023/b.jpg", "train/c.jpg")
    assert ClassFolders().splits(tmp_path) == ["train"]
    assert names(read_folder(tmp_path, "train")) == [("b.jpg", "bus"), ("a.jpg", "car"), ("c.jpg", "train")]
    with pytest.raises(EffkerasError, match="no split 'test'; splits found: train"):
        read_folder(tmp_path, "test")


def test_a_tenth_of_it_is_held_out(tmp_path):
    touch(tmp_path, *(f"{label}/{place}.png" for label in ("cat", "dog") for place in range(10)))
    train, val = open_data(tmp_path, "train"), open_data(tmp_path, "val")
    assert (len(train.records), len(val.records), val.labels) == (18, 2, ("cat", "dog"))


def test_folders_below_a_class_are_used_and_other_files_counted(tmp_path, capsys):
    touch(
        tmp_path,
        "train/cat/x/y/a.jfif",
        "train/cat/b.TIF",
        "train/cat/x/c.txt",
        "train/dog/d.gif",
        "test/e/f",
    )
    assert names(read_folder(tmp_path, "train")) == [("b.TIF", "cat"), ("a.jfif", "cat"), ("d.gif", "dog")]
    assert (
        "left out 1 file that is no image (1 .txt); the first: train/cat/x/c.txt" in capsys.readouterr().err
    )


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "elsewhere/a.png", "data/train/cat/b.png", "data/train/dog/c.png")
    (tmp_path / "data" / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "train" / "cat" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "val").symlink_to(tmp_path / "data" / "train")
    assert ClassFolders().splits(tmp_path / "data") == ["train", "val"]
    cats = [path for path, label in names(read_folder(tmp_path / "data", "train")) if label == "cat"]
    assert sorted(cats) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    "files",
    [("images/a.jpg",), ("images/train/a.jpg", "labels/train/a.json"), ("JPEGImages/a.jpg", "masks/a.png")],
)
def test_images_whose_labels_are_missing_are_no_classes(tmp_path, files):
    touch(tmp_path, *files)
    with pytest.raises(EffkerasError, match=r"not look like a class, and .*labels\.json is missing"):
        open_data(tmp_path, "train")


def test_images_in_folders_of_splits_are_no_classes(tmp_path):
    touch(tmp_path, "train/a.jpg", "valid/b.jpg", "test/c.jpg")
    assert ClassFolders().splits(tmp_path) == []


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not on this machine")
def test_the_case_of_nested_folders():
    data = open_data(CASES / "nested-class-folders", "train")
    held = open_data(CASES / "nested-class-folders", "val")
    assert len(data.records) + len(held.records) == 6
    assert all(read_image(record.path).size for record in data.records + held.records)


def test_what_is_read_is_written_again(tmp_path):
    pixels = np.zeros((5, 4, 3), np.uint8)
    for split in ("train", "test"):
        write_folder(tmp_path / "in", split, ("newt", "cat"), [("cat", pixels), ("newt", pixels)])
    splits = [read_folder(tmp_path / "in", split) for split in ("train", "test")]
    (tmp_path / "out").mkdir()
    ClassFolders().write(tmp_path / "out", splits)
    for split in splits:
        again = read_folder(tmp_path / "out", split.split)
        assert (again.labels, names(again)) == (split.labels, names(split))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses OpenCV, which it does not need here
        import supervision

        theirs = supervision.ClassificationDataset.from_folder_structure(str(tmp_path / "out" / "test"))
    assert sorted(theirs.classes) == ["cat", "newt"]
    assert len(theirs) == 2


def test_boxes_are_not_written(tmp_path):
    boxes = data_set(tmp_path / "in", "train", [((20, 30), [([2, 3, 12, 20], 0)])])
    with pytest.raises(EffkerasError, match="class folders hold one class an image, and not boxes"):
        ClassFolders().write(tmp_path, [boxes])


def test_hidden_and_other_files_are_ignored(tmp_path):
    touch(
        tmp_path,
        "train/cat/a.png",
        "train/cat/.b.png",
        "train/cat/notes.txt",
        "train/.git/a.png",
        ".x/y/z.png",
    )
    assert names(read_folder(tmp_path, "train")) == [("a.png", "cat")]
    assert ClassFolders().splits(tmp_path) == ["train"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test", "no split 'test'; splits found: train, val; layout: SPLIT/CLASS"),
        ("flat", "flat: no class folders"),
        ("val", r"val/dog: a class without images, with 1 file that is no image \(1 \.txt\); add some"),
        ("../x", "leads out"),
    ],
)
def test_bad_folders_are_named(tmp_path, split, message):
    touch(tmp_path, "train/cat/a.png", "val/cat/a.png", "val/dog/a.txt", "flat/a.png")
    with pytest.raises(EffkerasError, match=message):
        read_folder(tmp_path, split)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\ncat\n", "two classes are named 'cat'"),
        (b"dog\n", "does not name this class"),
        (b"\xff", "UTF-8"),
    ],
)
def test_bad_labels_are_named(tmp_path, content, message):
    touch(tmp_path, "train/cat/a.png")
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(EffkerasError, match=message):
        read_folder(tmp_path, "train")


@pytest.mark.parametrize("label", ["", "..", ".a", "a/b", "a\nb", " a", "a:b"])
def test_labels_that_name_no_folder_are_refused(tmp_path, label):
    with pytest.raises(EffkerasError, match="cannot name a folder"):
        write_folder(tmp_path, "train", (label,), [])


def test_unknown_labels_are_refused(tmp_path):
    pixels = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(EffkerasError, match="its label 'dog' is unknown"):
        write_folder(tmp_path, "train", ("cat",), [("dog", pixels)])


def test_a_failed_write_leaves_no_half_image(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(EffkerasError, match="No space left"):
        write_folder(tmp_path, "train", ("cat",), [("cat", np.zeros((2, 2, 3), np.uint8))])
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_hundred_thousand_names_are_read_at_once(tmp_path):
    """A reader that compares each name with all others would need a minute."""
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"class {number}\n" for number in range(100_000)))
    assert len(read_labels(path)) == 100_000
