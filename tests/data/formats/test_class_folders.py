"""A folder per class: round trips, the order of classes, and what bad folders say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from effkeras.data.formats.class_folders import ClassFolders, read_folder, write_folder
from effkeras.data.images import read_image
from effkeras.support.errors import EffkerasError


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
        ("val", "val/dog: a class without images; add some, or remove the folder"),
        ("../x", "leads out"),
    ],
)
def test_bad_folders_are_named(tmp_path, split, message):
    touch(tmp_path, "train/cat/a.png", "val/cat/a.png", "val/dog/a.txt", "flat/a.png")
    with pytest.raises(EffkerasError, match=message):
        read_folder(tmp_path, split)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"cat\ncat\n", "'cat' occurs twice"), (b"dog\n", "does not name this class"), (b"\xff", "UTF-8")],
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
