"""Boxes in CSV files: every layout, round trips, and what bad files say."""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.data_sets import (
    REAL,
    assert_only_our_errors,
    assert_same,
    contents,
    damaged,
    data_set,
    needs_bccd,
)

from effkeras.data.formats import WHOLE
from effkeras.data.formats.csv import Csv
from effkeras.data.formats.csv.tables import COLUMNS
from effkeras.data.records import ReadOptions
from effkeras.data.splits import open_data
from effkeras.support.errors import EffkerasError

HEADER = ",".join(COLUMNS)
CAT = "a.jpg,200,100,cat,20,10,60.5,40"
BOX = [10, 20, 40, 60.5]  # of the cat, in pixels
OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)


def store(root: Path, files: dict[str, str | bytes], *images: str) -> Path:
    """A folder with these files, and images of 200 x 100 pixels."""
    for name in images or ("a.jpg",):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100)).save(root / name)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def read(root: Path, split: str = WHOLE, **options: bool):
    return Csv().read(root, split, ReadOptions(**options))


def only(root: Path, split: str = WHOLE, **options: bool):
    (record,) = read(root, split, **options).records
    return record


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{CAT}\n",
        f"\ufeff{HEADER}\r\n{CAT}",
        f"{HEADER}\n{CAT}\n".encode("utf-16"),
        f"{HEADER}\n{CAT}\n".replace(",", ";").replace("60.5", "60,5"),
        f"{HEADER}\n{CAT}\n".replace(",", "\t"),
        '"Class_Name","X_Min",YMIN,"xmax",ymax,File\n"cat",20,10,60.5,40,a.jpg\n',
        "image_path,x1,y1,x2,y2,label\n./A.JPG,20,10,60.5,40,cat",
        "a.jpg,20,10,60.5,40,cat",  # keras-retinanet
        "TRAIN,gs://bucket/x/a.jpg,cat,0.1,0.1,,,0.3025,0.4,,",  # Google's
        "UNASSIGNED,gs://bucket/a.jpg,cat,0.1,0.1,0.3025,0.1,0.3025,0.4,0.1,0.4",
        "train,a.jpg,cat,0.1,0.1,0.3025,0.4",
        "a.jpg,cat,0.1,0.1,,,0.3025,0.4",
        f"{OPEN_IMAGES}\na,xclick,cat,1,0.1,0.3025,0.1,0.4,0,0,0,0,0",
    ],
)
def test_every_layout_gives_the_same_box(tmp_path, text):
    record = only(store(tmp_path, {"annotations.csv": text}))
    np.testing.assert_allclose(record.boxes, np.array([BOX]), rtol=1e-6)
    assert (record.size, record.path) == ((100, 200), tmp_path / "a.jpg")
    assert read(tmp_path).labels == ("cat",)
    assert read(tmp_path / "annotations.csv").labels == ("cat",)


@pytest.mark.parametrize(
    ("table", "image", "split"),
    [
        ("train_labels.csv", "a.jpg", "train"),
        ("val.csv", "images/a.jpg", "val"),
        ("test_labels.csv", "images/test/a.jpg", "test"),
        ("test/_annotations.csv", "test/a.jpg", "test"),
        ("valid/annotations.csv", "valid/images/a.jpg", "valid"),
        ("labels.csv", "a.jpg", WHOLE),
        ("cats.csv", "images/a.jpg", WHOLE),
        ("data/train_labels.csv", "images/a.jpg", "train"),
        ("annotations/test.csv", "test/a.jpg", "test"),
        ("validation/labels/detections.csv", "validation/data/a.jpg", "validation"),
    ],
)
def test_tables_and_images_are_found_where_tools_put_them(tmp_path, table, image, split):
    store(tmp_path, {table: f"{HEADER}\n{CAT}\n"}, image)
    assert Csv().splits(tmp_path) == [split]
    assert only(tmp_path, split).path == tmp_path / image
    assert Csv().splits(tmp_path / table) == [WHOLE if table.endswith("detections.csv") else split]
    assert only(tmp_path / table, Csv().splits(tmp_path / table)[0]).path.name == "a.jpg"


def test_a_column_of_splits(tmp_path):
    lines = [f"{HEADER},split", f"{CAT},Train", f"{CAT},train", f"b{CAT[1:]},VAL", f"c{CAT[1:]},"]
    store(tmp_path, {"all.csv": "\n".join(lines)}, "a.jpg", "b.jpg", "c.jpg")
    assert Csv().splits(tmp_path) == ["train", "val"]
    assert [len(record.boxes) for record in read(tmp_path, "train").records] == [2, 1]
    assert [record.path.name for record in read(tmp_path, "val").records] == ["b.jpg"]


def test_googles_splits(tmp_path, capsys):
    lines = [
        f"{split},gs://x/{name}.jpg,cat,0,0,,,.5,.5,,"
        for split, name in (("TRAIN", "a"), ("VALIDATION", "b"))
    ]
    store(tmp_path, {"data.csv": "\n".join(lines)}, "a.jpg", "b.jpg")
    assert open_data(tmp_path, "val").records[0].path.name == "b.jpg"
    assert "1 images are found by the end of their path; the first: gs://x/b.jpg" in capsys.readouterr().err


def test_lines_of_one_image_are_one_record(tmp_path):
    lines = [HEADER, CAT, "b.jpg,,,dog,1,2,3,4", CAT, "c.jpg,200,100,,,,,", "d.jpg,,,,0,0,0,0"]
    store(tmp_path, {"labels.csv": "\n".join(lines)}, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    data = read(tmp_path)
    assert [len(record.boxes) for record in data.records] == [2, 1, 0, 0]
    assert data.labels == ("cat", "dog")
    assert data.skipped == ()


def test_open_images(tmp_path, capsys):
    """Groups are crowds, classes have their names, and what is not there is left out."""
    rows = [
        OPEN_IMAGES,
        "a,x,/m/1,1,0,.5,0,.5,0,0,1,0,0",
        "a,x,/m/2,1,0,.5,0,.5,0,0,0,0,0",
        "a,x,/m/1,0,0,1,0,1,0,0,0,0,0",
    ]
    names = "/m/1,Newt\n/m/2,Cat\n"
    store(
        tmp_path,
        {"train-annotations-bbox.csv": "\n".join(rows), "class-descriptions.csv": names},
        "train/a.jpg",
    )
    data = read(tmp_path, "train")
    assert data.labels == ("Cat", "Newt")
    assert data.records[0].crowd.tolist() == [True, False]
    assert "1 rows have Confidence 0" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["crowd", "Difficult", "iscrowd"])
def test_a_column_marks_crowds(tmp_path, column):
    store(tmp_path, {"labels.csv": f"{HEADER},{column}\n{CAT},1\n{CAT},0\n"})
    assert only(tmp_path).crowd.tolist() == [True, False]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (CAT.replace("60.5", "20"), r"\(20\.0, 10\.0, 20\.0, 40\.0\) has no area"),
        (CAT.replace("60.5", "nan"), "not a finite number"),
        (CAT.replace("60.5", "1e999"), "not a finite number"),
        (CAT.replace("60.5", "wide"), "not a finite number"),
        (CAT.replace("cat", ""), "it has a box and no class"),
        ("a.jpg,200,100,cat,,,,", "it has a class and no box"),
        ("a.jpg,200,100,ca", "it has 4 cells, and the table 8 columns"),
        (CAT + ",,7", "it has 10 cells, and the table 8 columns"),
        (CAT.replace("cat", '"c\nat"'), "control characters"),
        (CAT.replace("20,10", "300,10").replace("60.5", "400"), "lies outside the image"),
    ],
)
def test_bad_lines_are_named_or_skipped_and_their_place_is_unknown(tmp_path, line, problem):
    store(tmp_path, {"train.csv": f"{HEADER}\n{CAT}\n{line}\n"})
    with pytest.raises(EffkerasError, match=rf"train\.csv: line [34] .*{problem}.*--skip-bad"):
        read(tmp_path, "train")
    record = only(tmp_path, "train", skip_bad=True)
    assert (len(record.boxes), len(record.unknown)) == (1, 1)


def rows(*lines: str, header: str = HEADER) -> str:
    return "\n".join((header, *lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows(CAT, f"x{CAT}"), r"1 of 2 .*train\.csv: line 3: no image file 'xa\.jpg' .*most similar name"),
        (rows(CAT, ",200,100,cat,1,2,3,4"), r"train\.csv: line 3: it names no image"),
        (rows(f"/x/{CAT}"), r"'/x/a\.jpg' is absolute"),
        (rows(f"../{CAT}"), "leads out"),
        (
            rows(CAT, CAT.replace("200", "300")),
            "line 2 says it has 200 x 100 pixels, and line 3 says 300 x 100",
        ),
        (rows(CAT + ",train", CAT + ",val", header=HEADER + ",split"), "line 2 has it in the split 'train'"),
        (rows("a.jpg,200,100,cat,.1,.1,.9,1"), "all values of its 1 boxes lie within 0 and 1"),
        ("TRAIN,a.jpg,cat,10,10,,,50,50,,", "1 of 1 boxes have values above 1.*divide by"),
        ("filename,class,x,y,w,h\na.jpg,cat,1,1,2,2", "a box needs xmin, ymin, xmax, ymax"),
        (
            'filename,class,xmin,"a\nb"\na.jpg,cat,1,1',
            "its columns are filename, class, xmin, a b; a box needs",
        ),
        ("filename,xmin,ymin,xmax,ymax\na.jpg,1,1,2,2", "no column 'class'"),
        (rows(CAT, "\xff").encode("latin-1"), "not UTF-8; save it as UTF-8"),
        (rows(CAT, '"a.jpg,1'), r"after line 2: not valid CSV \(unexpected end"),
        (rows("x" * 200_000 + ",1"), "not valid CSV .*field larger"),
        (rows(), "has no usable image"),
    ],
)
def test_typical_mistakes(tmp_path, text, message):
    store(tmp_path, {"train.csv": text})
    with pytest.raises(EffkerasError, match=message):
        read(tmp_path, "train")


def test_two_tables_of_one_split_are_refused(tmp_path):
    store(tmp_path, {"train.csv": rows(CAT), "train_labels.csv": rows(CAT)})
    with pytest.raises(EffkerasError, match=r"train\.csv and train_labels\.csv all have the split 'train'"):
        read(tmp_path, "train")


def test_two_images_are_not_taken_for_one(tmp_path):
    """The ends of both paths lead to the one file that is there."""
    store(tmp_path, {"train.csv": f"{HEADER}\nx/{CAT}\ny/{CAT}\n"})
    with pytest.raises(EffkerasError, match=r"'y/a\.jpg' and 'x/a\.jpg' both lead to"):
        read(tmp_path, "train")


@pytest.mark.parametrize(
    "text", ["mid,name\n/m/1,Cat\n", "epoch,loss\n1,2\n", "", "a,b\n" * 9, "\0" * 99, "{}"]
)
def test_other_tables_are_not_taken_for_labels(tmp_path, text):
    store(tmp_path, {"train.csv": text})
    assert Csv().splits(tmp_path) == []
    assert Csv().splits(tmp_path / "train.csv") == []


def test_labels_txt_fixes_the_order(tmp_path, capsys):
    store(tmp_path, {"train.csv": f"{HEADER}\n{CAT}", "labels.txt": "newt\ncat\n"})
    assert read(tmp_path, "train").labels == ("newt", "cat")
    assert only(tmp_path, "train").classes.tolist() == [1]
    (tmp_path / "labels.txt").write_text("dog\n")
    assert read(tmp_path, "train").labels == ("cat",)
    assert "labels.txt lacks the class 'cat', so it is not used" in capsys.readouterr().err


@given(contents(), contents(), st.booleans())
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read(train, test, crowds):
    with tempfile.TemporaryDirectory() as folder:
        splits = [data_set(Path(folder, "in"), name, one) for name, one in (("train", train), ("test", test))]
        splits = [with_crowds(split) for split in splits] if crowds else splits
        out = Path(folder, "out")
        out.mkdir()
        Csv().write(out, splits)
        assert Csv().splits(out) == ["test", "train"]
        for split in splits:
            assert read(out, split.split).labels == split.labels
            assert_same(read(out, split.split), split)


def with_crowds(data):
    records = [dataclasses.replace(one, crowd=np.arange(len(one.boxes)) % 2 == 0) for one in data.records]
    return dataclasses.replace(data, records=tuple(records))


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_only_our_own_errors_come_out_of_damaged_files(data):
    with tempfile.TemporaryDirectory() as folder:
        text = data.draw(
            st.sampled_from([f"{HEADER}\n{CAT}\n{CAT}\n", "TRAIN,gs://b/a.jpg,cat,.1,.1,,,.3,.4,,\n"])
        )
        content = damaged(data, text.encode())
        store(Path(folder), {"train.csv": content})
        assert_only_our_errors(Csv(), Path(folder))


def test_the_written_file_is_what_the_tutorials_read(tmp_path):
    split = data_set(tmp_path / "in", "train", [((20, 30), [([2, 3, 12, 20.25], 0)]), ((9, 8), [])])
    Csv().write(tmp_path, [split])
    with (tmp_path / "train" / "_annotations.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    values = ("train 1.png", "30", "20", split.labels[0], "3", "2", "20.25", "12")
    assert first == dict(zip(COLUMNS, values, strict=True))
    assert second["filename"] == "train 2.png"
    assert second["class"] == second["xmin"] == ""
    assert (tmp_path / "train" / first["filename"]).is_file()


@needs_bccd
def test_real_labels_are_the_same_afterwards(tmp_path):
    data = open_data(REAL / "bccd", "test")
    Csv().write(tmp_path, [data])
    assert_same(read(tmp_path, "test"), data, pixels=0.001)
