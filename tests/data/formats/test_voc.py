"""Pascal VOC: round trips, real files, and what bad files say."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.data_sets import (
    REAL,
    assert_only_our_errors,
    assert_round_trip,
    contents,
    damaged,
    data_set,
    needs_bccd,
)

from effkeras.data.formats import WHOLE
from effkeras.data.formats.voc import Voc
from effkeras.data.records import ReadOptions
from effkeras.data.splits import open_data
from effkeras.support.errors import EffkerasError

BOX = "<bndbox><xmin>2</xmin><ymin>4</ymin><xmax>12.5</xmax><ymax>14</ymax></bndbox>"
OBJECT = f"<object><name>cat</name>{BOX}</object>"
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def document(objects: str = OBJECT, size: str = SIZE, name: str = "a.jpg") -> str:
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def store(root: Path, text: str | None = None, stem: str = "a", size: tuple[int, int] = (40, 30)) -> Path:
    """An image with its XML file beside it."""
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(root / f"{stem}.jpg")
    (root / f"{stem}.xml").write_text(document() if text is None else text, "utf-8")
    return root


def read(root: Path, split: str = WHOLE, **options: bool):
    return Voc().read(root, split, ReadOptions(**options))


def test_xml_files_beside_the_images_are_one_split(tmp_path):
    data = read(store(tmp_path))
    (record,) = data.records
    assert Voc().splits(tmp_path) == [WHOLE]
    assert data.labels == ("cat",)
    np.testing.assert_array_equal(record.boxes, np.array([[4, 2, 14, 12.5]], np.float32))
    assert record.size == (30, 40)


def test_pixels_may_count_from_one(tmp_path):
    (record,) = read(store(tmp_path), one_based=True).records
    np.testing.assert_array_equal(record.boxes, np.array([[3, 1, 14, 12.5]], np.float32))


def test_folders_are_splits(tmp_path):
    store(tmp_path / "train")
    store(tmp_path / "valid")
    assert Voc().splits(tmp_path) == ["train", "valid"]
    assert open_data(tmp_path, "val").records[0].path == tmp_path / "valid" / "a.jpg"


def test_lists_of_single_classes_are_no_splits(tmp_path):
    store(tmp_path / "Annotations")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "cat_train.txt").write_text("a  1\n")
    assert Voc().splits(tmp_path) == ["train"]


def test_train_and_val_together_are_no_third_split(tmp_path):
    store(tmp_path / "Annotations")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("a\n")
    assert Voc().splits(tmp_path) == ["trainval"]
    for name in ("train", "val"):
        (lists / f"{name}.txt").write_text("a\n")
    assert Voc().splits(tmp_path) == ["train", "val"]


def test_difficult_objects_are_ignored_like_crowds(tmp_path):
    text = document(OBJECT.replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    assert read(store(tmp_path, text)).records[0].crowd.tolist() == [True]


def test_a_size_of_zero_is_read_from_the_image(tmp_path):
    text = document(size="<size><width>0</width><height>0</height></size>")
    assert read(store(tmp_path, text)).records[0].size == (30, 40)


def test_a_box_beyond_the_image_is_clipped_and_counted(tmp_path):
    data = read(store(tmp_path, document(OBJECT.replace("12.5", "50"))))
    assert data.records[0].boxes[0, 3] == 40
    assert data.clipped == ("a.xml: object 1 ('cat')",)


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        (OBJECT.replace("12.5", "2"), "xmin=2 ymin=4 xmax=2 ymax=14 has no area"),
        (OBJECT.replace("12.5", "nan"), "not a finite number"),
        (OBJECT.replace("12.5", "wide"), "not a finite number"),
        (OBJECT.replace(BOX, ""), "it has no bndbox"),
        (OBJECT.replace("cat", " "), "it has no name"),
        (OBJECT.replace("cat", "c&#10;at"), "control characters"),
        (OBJECT.replace(">2<", ">41<").replace("12.5", "60"), "lies outside the image"),
    ],
)
def test_bad_objects_are_named_or_skipped_and_their_place_is_unknown(tmp_path, objects, problem):
    store(tmp_path, document(objects + OBJECT))
    with pytest.raises(EffkerasError, match=rf"a\.xml: object 1 .*{problem}.*--skip-bad"):
        read(tmp_path)
    data = read(tmp_path, skip_bad=True)
    (record,) = data.records
    assert (len(record.boxes), len(record.unknown), len(data.skipped)) == (1, 1, 1)
    assert (record.unknown[:, 2:] > record.unknown[:, :2]).all()


@pytest.mark.parametrize("text", ["<annotation>", "no XML", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>"])
def test_damaged_files_are_named(tmp_path, text):
    store(tmp_path)
    store(tmp_path, text, stem="b")
    with pytest.raises(EffkerasError, match=r"1 of 2 images .*b\.xml: not valid XML"):
        read(tmp_path)
    assert len(read(tmp_path, skip_bad=True).records) == 1


def test_a_missing_image_is_named_with_the_most_similar_one(tmp_path):
    store(tmp_path)
    (tmp_path / "b.xml").write_text(document(name="aa.jpg"))
    with pytest.raises(
        EffkerasError, match=r"b\.xml: no image file 'aa\.jpg' .*similar name there is 'a\.jpg'"
    ):
        read(tmp_path)


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "c:\\a.jpg"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    store(tmp_path)
    (tmp_path / "b.xml").write_text(document(name=name))
    with pytest.raises(EffkerasError, match=r"leads out of its folder|is absolute"):
        read(tmp_path)


@given(contents(), contents())
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read(train, test):
    assert_round_trip(Voc(), train, test, keeps_classes=False)  # VOC has no list of classes


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_only_our_own_errors_come_out_of_damaged_files(data):
    with tempfile.TemporaryDirectory() as folder:
        content = damaged(data, document(OBJECT * 2).encode())
        store(Path(folder))
        Path(folder, "a.xml").write_bytes(content)
        assert_only_our_errors(Voc(), Path(folder))


def test_supervision_reads_what_is_written(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses OpenCV, which it does not need here
        import supervision

        split = data_set(tmp_path / "in", "train", [((20, 30), [([2, 3, 12, 20], 0), ([5, 5, 9, 9], 3)])])
        Voc().write(tmp_path, [split])
        theirs = supervision.DetectionDataset.from_pascal_voc(
            str(tmp_path / "JPEGImages"), str(tmp_path / "Annotations")
        )
        (_, _, found), *_ = theirs
    assert [theirs.classes[label] for label in found.class_id] == [split.labels[0], split.labels[3]]
    corners = split.records[0].boxes[:, [1, 0, 3, 2]]
    np.testing.assert_allclose(found.xyxy, corners, atol=1.0)  # supervision counts pixels from 1


@needs_bccd
def test_real_files_are_read_with_their_two_bad_boxes():
    counts = {"train": (205, 1), "val": (87, 1), "test": (72, 0)}
    for split, expected in counts.items():
        data = open_data(REAL / "bccd", split, skip_bad=True)
        assert (len(data.records), len(data.skipped)) == expected
        assert data.labels == ("Platelets", "RBC", "WBC")
        assert data.clipped == ()
