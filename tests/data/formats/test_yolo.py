"""YOLO: lines, round trips, what other readers make of our files, and what bad files say."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.data_sets import (
    LABELS,
    REAL,
    assert_only_our_errors,
    assert_round_trip,
    assert_same,
    contents,
    damaged,
    data_set,
    needs_bccd,
)

from effkeras.data.formats import WHOLE
from effkeras.data.formats.yolo import Yolo
from effkeras.data.records import Polygons, ReadOptions, RunLengths
from effkeras.data.segmentations import encode_rle, pixels_of
from effkeras.data.splits import open_data
from effkeras.support.errors import EffkerasError

BOX = "1 0.5 0.5 0.25 0.5"


def store(root: Path, lines: str | None = BOX, stem: str = "a", size: tuple[int, int] = (40, 20)) -> Path:
    """An image in images/ with its label file in labels/, and two classes."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(root / "images" / f"{stem}.jpg")
    if lines is not None:
        (root / "labels" / f"{stem}.txt").write_text(lines, "utf-8")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def read(root: Path, split: str = WHOLE, **options: bool):
    return Yolo().read(root, split, ReadOptions(**options))


def test_a_line_is_a_box_around_its_centre(tmp_path):
    data = read(store(tmp_path, f"\ufeff{BOX}\r\n\r\n0.0\t.5 .5 1 1\n"))
    (record,) = data.records
    assert Yolo().splits(tmp_path) == [WHOLE]
    assert data.labels == ("cat", "dog")
    assert (record.size, record.classes.tolist()) == ((20, 40), [1, 0])
    np.testing.assert_allclose(record.boxes, [[5, 15, 15, 25], [0, 0, 20, 40]])


def test_the_box_of_a_polygon_is_its_extent(tmp_path):
    triangle, rotated = "0 0.25 0.25 0.75 0.25 0.5 0.75", "1 .5 .1 .9 .5 .5 .9 .1 .5"
    (record,) = read(store(tmp_path, f"{triangle}\n{rotated}\n{BOX}"), masks=True).records
    np.testing.assert_allclose(record.boxes[:2], [[5, 10, 15, 30], [2, 4, 18, 36]], atol=1e-5)
    np.testing.assert_allclose(record.areas, [100, 256, 100], rtol=1e-6)
    np.testing.assert_allclose(record.masks[0].points[0], [[10, 5], [30, 5], [20, 15]])
    assert record.masks[2] is None
    assert read(tmp_path).records[0].masks == ()


BAD_LINES = {
    "confidence": (f"{BOX} 0.9", r"has 6 columns: .*confidence"),
    "short": ("1 0.5 0.5 0.25", "has 4 columns; a box has 5"),
    "odd": (f"{BOX} 0.1 0.2 0.3", "has 8 columns"),
    "pixels": ("1 20 10 10 10", "seems to be in pixels; divide x by"),
    "nan": ("1 nan 0.5 0.25 0.5", "not a finite number"),
    "infinite": ("1 0.5 1e999 0.25 0.5", "not a finite number"),
    "words": ("dog 0.5 0.5 0.25 0.5", "not a class and numbers"),
    "commas": ("1,0.5,0.5,0.25,0.5", "separate values by spaces"),
    "class": ("2 0.5 0.5 0.25 0.5", r"its class is 2, and classes\.txt has the classes 0 to 1"),
    "no class": ("-1 0.5 0.5 0.25 0.5", "not a whole number from 0 on"),
    "half a class": ("0.5 0.5 0.5 0.25 0.5", "not a whole number from 0 on"),
    "no area": ("1 0.5 0.5 0 0.5", "has no area"),
    "outside": ("1 1.8 0.5 0.25 0.5", "lies outside the image"),
}


@pytest.mark.parametrize(("line", "problem"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_or_skipped_and_its_place_is_unknown(tmp_path, line, problem):
    store(tmp_path, f"{BOX}\n{line}\n")
    with pytest.raises(EffkerasError, match=rf"labels/a\.txt: line 2: .*{problem}.*--skip-bad") as error:
        read(tmp_path)
    assert "\n" not in str(error.value)
    data = read(tmp_path, skip_bad=True)
    (record,) = data.records
    assert (len(record.boxes), len(record.unknown), len(data.skipped)) == (1, 1, 1)


def test_a_box_beyond_the_image_is_clipped_and_counted(tmp_path):
    data = read(store(tmp_path, "1 0.95 0.5 0.3 0.5"))
    assert data.records[0].boxes[0, 3] == 40
    assert data.clipped == ("labels/a.txt: line 1",)


def test_repeated_lines_count_once(tmp_path, capsys):
    (record,) = read(store(tmp_path, f"{BOX}\n1 .50 .5 .25 .50\n")).records
    assert len(record.boxes) == 1
    assert "1 repeated lines count once; the first are in labels/a.txt" in capsys.readouterr().err


def test_images_without_labels_are_background(tmp_path, capsys):
    store(store(store(tmp_path), None, "b"), "", "c")
    assert [len(record.boxes) for record in read(tmp_path).records] == [1, 0, 0]
    assert "1 of 3 images have no label file and count as background" in capsys.readouterr().err


def test_no_label_file_at_all_is_an_error(tmp_path):
    store(tmp_path, None)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    with pytest.raises(EffkerasError, match=r"none of its 1 images has a label file; .*labels/a\.txt"):
        read(tmp_path)


def test_unreadable_images_and_labels_are_named(tmp_path):
    store(store(store(tmp_path), BOX, "b"), BOX, "c")
    (tmp_path / "images" / "b.jpg").write_bytes(b"no image")
    (tmp_path / "labels" / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EffkerasError, match=r"2 of 3 images .*labels/b\.txt: .*not an image"):
        read(tmp_path)
    assert len(read(tmp_path, skip_bad=True).records) == 1


def test_a_phone_image_counts_as_it_is_turned(tmp_path):
    store(tmp_path)
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.jpg", exif=exif)
    assert read(tmp_path).records[0].size == (40, 20)


# writing


@given(contents(), contents())
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read(train, test):
    assert_round_trip(Yolo(), train, test)


def with_masks(folder: Path):
    """An image with a polygon of two parts, run lengths with two parts, and a box."""
    boxes = [([2, 2, 18, 30], 0), ([1, 1, 19, 12], 1), ([4, 4, 8, 8], 2)]
    data = data_set(folder, "train", [((20, 32), boxes)])
    pixels = np.zeros((20, 32), bool)
    pixels[1:6, 1:4] = pixels[9:19, 5:12] = True
    squares = [
        np.array([[x, y], [x + 8, y], [x + 8, y + 6], [x, y + 6]], np.float32) for x, y in ((2, 2), (22, 12))
    ]
    masks = (Polygons(tuple(squares)), RunLengths(np.array(encode_rle(pixels)["counts"])), None)
    return replace(data, records=(replace(data.records[0], masks=masks),))


def test_masks_are_written_as_one_polygon_each(tmp_path):
    data = with_masks(tmp_path / "in")
    Yolo().write(tmp_path, [data])
    lines = (tmp_path / "labels" / "train" / "train 1.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [1 + 2 * 10, 1 + 2 * 10, 5]
    read_back = read(tmp_path, "train", masks=True)
    assert_same(read_back, data)
    for ours, theirs in zip(data.records[0].masks[:2], read_back.records[0].masks[:2], strict=True):
        np.testing.assert_array_equal(pixels_of(theirs, (20, 32)), pixels_of(ours, (20, 32)))


def test_what_cannot_be_written_is_noted(tmp_path, capsys):
    data = with_masks(tmp_path / "in")
    (record,) = data.records
    record.boxes[0] = [3, 2, 18, 30]
    ring = np.ones((20, 32), bool)
    ring[5:15, 5:15] = False
    masks = (record.masks[0], None, RunLengths(np.array(encode_rle(ring)["counts"])))
    record = replace(record, masks=masks, crowd=np.array([True, False, True]))
    record.boxes[2] = [0, 0, 20, 32]
    Yolo().write(tmp_path, [replace(data, records=(record,))])
    noted = capsys.readouterr().err
    assert "no mark for crowds: 2 are written as ordinary boxes" in noted
    assert "in YOLO, 1 boxes become the extent of their masks" in noted
    assert "YOLO has no holes in masks: those of 1 masks are filled" in noted


def test_the_names_of_splits_are_those_that_yolo_knows(tmp_path):
    box = [((20, 30), [([2, 3, 12, 20], 0)])]
    splits = [data_set(tmp_path / name, name, box) for name in ("trainval", "train", "val2017", "night")]
    Yolo().write(tmp_path, splits)
    assert Yolo().splits(tmp_path) == ["night", "train", "trainval", "val"]
    assert open_data(tmp_path, "val").records[0].path.parent.name == "val2017"


def test_supervision_reads_what_is_written(tmp_path):
    data = with_masks(tmp_path / "in")
    Yolo().write(tmp_path, [data])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses OpenCV, which it does not need here
        import supervision

        theirs = supervision.DetectionDataset.from_yolo(
            str(tmp_path / "images" / "train"),
            str(tmp_path / "labels" / "train"),
            str(tmp_path / "data.yaml"),
        )
        (_, _, found), *_ = theirs
    assert theirs.classes == list(LABELS)
    assert found.class_id.tolist() == data.records[0].classes.tolist()
    np.testing.assert_allclose(found.xyxy, data.records[0].boxes[:, [1, 0, 3, 2]], atol=0.01)
    ours = np.array([pixels_of(mask, (20, 32)) for mask in data.records[0].masks[:2]])
    differing = (found.mask[:2] != ours).mean(
        (1, 2)
    )  # it rounds corners to whole pixels and draws their borders
    assert differing.max() < 0.1


def by_the_rules(label_file: Path, size: tuple[int, int]) -> np.ndarray:
    """Class, ymin, xmin, ymax, xmax of each line of boxes, as https://docs.ultralytics.com says."""
    lines = np.loadtxt(label_file, ndmin=2).reshape(-1, 5)
    center, sides = lines[:, [2, 1]] * size, lines[:, [4, 3]] * size
    return np.concatenate([lines[:, :1], center - sides / 2, center + sides / 2], 1)


@needs_bccd
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_real_boxes_stay_and_follow_the_published_rules(tmp_path, split):
    data = open_data(REAL / "bccd", split, skip_bad=True)
    Yolo().write(tmp_path, [data])
    assert_same(read(tmp_path, split), data, pixels=0.001)
    for record in data.records[:20]:
        found = by_the_rules(tmp_path / "labels" / split / f"{record.path.stem}.txt", record.size)
        np.testing.assert_array_equal(found[:, 0], record.classes)
        np.testing.assert_allclose(found[:, 1:], record.boxes, atol=0.001)


DATA_FILE = "path: .\ntrain: images\nnames:\n  0: cat\n  1: dog\nnc: 2\n"


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_only_our_own_errors_come_out_of_damaged_files(data):
    with tempfile.TemporaryDirectory() as folder:
        root = store(Path(folder))
        texts = {
            "data.yaml": DATA_FILE,
            "labels/a.txt": f"{BOX}\n0 .1 .1 .5 .1 .1 .9\n",
            "classes.txt": "a\nb\n",
        }
        chosen = data.draw(st.sampled_from(sorted(texts)))
        for name, text in texts.items():
            if name != "data.yaml" or chosen == "data.yaml":
                (root / name).write_text(text)
        content = damaged(data, texts[chosen].encode())
        (root / chosen).write_bytes(content)
        assert_only_our_errors(Yolo(), root)
