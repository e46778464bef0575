"""Classes of images in CSV files: layouts, round trips, and what bad files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effkeras.data.formats.class_folders import read_folder, write_folder
from effkeras.data.formats.csv import Csv
from effkeras.data.records import ReadOptions
from effkeras.data.splits import open_data
from effkeras.support.errors import EffkerasError


def store(root: Path, files: dict[str, str], *images: str) -> Path:
    for name in images or ("a.jpg", "b.jpg", "c.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, content in files.items():
        (root / name).write_text(content, "utf-8")
    return root


def classes(data):
    return {record.path.name: data.labels[record.label] for record in data.records}


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na.jpg,newt\nb.jpg,10\nc.jpg,9\n",
        "id;Class Name;file name\n1;newt;a.jpg\n2;10;b.jpg\n3;9;c.jpg\n",
        "a.jpg,newt\nb.jpg,10\nc.jpg,9\n",
        "a.jpg,newt,train\nb.jpg,10,train\nc.jpg,9,train\n",
        "TRAIN,gs://x/a.jpg,newt\nTRAIN,gs://x/b.jpg,10\nUNASSIGNED,gs://x/c.jpg,9\n",
        "image_id,label\na,newt\nb,10\nc,9\n",
    ],
)
def test_every_layout_gives_the_same_classes(tmp_path, text):
    data = Csv().read(store(tmp_path, {"labels.csv": text}), "train", ReadOptions())
    assert data.labels == ("9", "10", "newt")
    assert classes(data) == {"a.jpg": "newt", "b.jpg": "10", "c.jpg": "9"}


def test_splits_have_the_classes_of_all(tmp_path):
    store(
        tmp_path, {"train.csv": "image,label\na.jpg,cat\nb.jpg,dog\n", "val.csv": "image,label\nc.jpg,dog\n"}
    )
    assert open_data(tmp_path, "val").labels == ("cat", "dog")
    store(
        tmp_path / "s", {"all.csv": "image,label,split\na.jpg,cat,train\nb.jpg,dog,train\nc.jpg,dog,Test\n"}
    )
    assert open_data(tmp_path / "s", "test").labels == ("cat", "dog")
    assert classes(open_data(tmp_path / "s", "test")) == {"c.jpg": "dog"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x.jpg,cat", r"line 3: no image file 'x\.jpg'"),
        ("b.jpg,", "line 3: a class name is empty"),
        ("b.jpg", "line 3: a class name is empty"),
        ("a.jpg,dog", r"line 3: a\.jpg is 'dog' here and 'cat' before"),
        ('b.jpg,"c\nat"', "control characters"),
        ("b.jpg,cat,dog", "line 3: a class name is empty"),
        ("../b.jpg,cat", "leads out"),
    ],
)
def test_bad_rows_are_named_or_skipped(tmp_path, row, message):
    store(tmp_path, {"train.csv": f"image,label\na.jpg,cat\n{row}\nc.jpg,cat\n"})
    with pytest.raises(
        EffkerasError, match=rf"1 of \d images of the split 'train' .*train\.csv: .*{message}"
    ):
        Csv().read(tmp_path, "train", ReadOptions())
    data = Csv().read(tmp_path, "train", ReadOptions(skip_bad=True))
    assert classes(data)["c.jpg"] == "cat"
    assert len(data.skipped) == 1


def test_what_is_written_is_read(tmp_path):
    pixels = np.zeros((5, 4, 3), np.uint8)
    for split in ("train", "test"):
        write_folder(tmp_path / "in", split, ("newt", "c,at"), [("c,at", pixels), ("newt", pixels)])
    splits = [read_folder(tmp_path / "in", split) for split in ("train", "test")]
    (tmp_path / "out").mkdir()
    Csv().write(tmp_path / "out", splits)
    for split in splits:
        again = Csv().read(tmp_path / "out", split.split, ReadOptions())
        assert (again.labels, classes(again)) == (split.labels, classes(split))
