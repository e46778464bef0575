"""LabelMe: shapes, round trips, what labelme itself needs in our files, and what bad files say."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.data_sets import (
    LABELS,
    assert_only_our_errors,
    assert_round_trip,
    assert_same,
    contents,
    damaged,
    data_set,
)

from effkeras.data.formats import WHOLE
from effkeras.data.formats.labelme import LabelMe
from effkeras.data.records import Polygons, ReadOptions, RunLengths
from effkeras.data.segmentations import encode_rle, pixels_of
from effkeras.data.splits import format_of, open_data
from effkeras.support.errors import EffkerasError

RECTANGLE = [[30, 14], [10, 4]]
TRIANGLE = [[10, 5], [30, 5], [20, 15]]


def shape(points: object = RECTANGLE, kind: object = "rectangle", label: object = "cat", **more: object):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def document(*shapes: object, **changes: object) -> str:
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes or [shape()]),
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 20,
        "imageWidth": 40,
    }
    return json.dumps({**content, **changes})


def store(root: Path, text: str | None = None, stem: str = "a") -> Path:
    """An image of 40 x 20 pixels with its JSON file."""
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(root / f"{stem}.jpg")
    (root / f"{stem}.json").write_text(document() if text is None else text, "utf-8")
    return root


def read(root: Path, split: str = WHOLE, **options: bool):
    return LabelMe().read(root, split, ReadOptions(**options))


def test_a_rectangle_is_given_by_two_corners(tmp_path):
    data = read(store(tmp_path), masks=True)
    (record,) = data.records
    assert LabelMe().splits(tmp_path) == [WHOLE]
    assert format_of(tmp_path).title == "LabelMe"
    assert (data.labels, record.size) == (("cat",), (20, 40))
    np.testing.assert_array_equal(record.boxes, [[4, 10, 14, 30]])
    assert record.masks == ()


def png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_boxes_areas_and_masks_of_other_shapes(tmp_path):
    ring = np.ones((6, 11), bool)
    ring[2:4, 2:9] = False
    shapes = [
        shape(TRIANGLE, "polygon"),
        shape([[20, 10], [23, 14]], "circle"),
        shape([[10, 4], [20, 9]], "mask", mask=png(ring)),
        shape([[1, 1], [9, 1], [9, 5], [1, 5]], "oriented_rectangle"),
    ]
    (record,) = read(store(tmp_path, document(*shapes)), masks=True).records
    boxes = [[5, 10, 15, 30], [5, 15, 15, 25], [4, 10, 10, 21], [1, 1, 5, 9]]
    np.testing.assert_allclose(record.boxes, boxes)
    np.testing.assert_allclose(record.areas, [100, 25 * np.pi, 66, 32], rtol=1e-6)
    np.testing.assert_array_equal(record.masks[0].points[0], TRIANGLE)
    assert record.masks[1] is None
    whole = np.zeros((20, 40), bool)
    whole[4:10, 10:21] = ring
    np.testing.assert_array_equal(pixels_of(record.masks[2], (20, 40)), whole)


def test_shapes_of_one_group_and_label_are_one_object(tmp_path):
    other = [[2, 2], [6, 2], [6, 8], [2, 8]]
    shapes = [
        shape(TRIANGLE, "polygon", group_id=1),
        shape(RECTANGLE, label="dog", group_id=1),
        shape(other, "polygon", group_id=1),
        shape(other, "polygon", group_id=2),
    ]
    data = read(store(tmp_path, document(*shapes)), masks=True)
    (record,) = data.records
    assert [data.labels[label] for label in record.classes] == ["cat", "dog", "cat"]
    np.testing.assert_allclose(record.boxes, [[2, 2, 15, 30], [4, 10, 14, 30], [2, 2, 8, 6]])
    np.testing.assert_allclose(record.areas, [124, 200, 24])
    assert [mask and len(mask.points) for mask in record.masks] == [2, None, 1]


BAD_SHAPES = {
    "point": (shape([[3, 4]], "point"), "it is a point, which has no box; draw a rectangle"),
    "line": (shape([[3, 4], [9, 9]], "line"), "it is a line, which has no box"),
    "linestrip": (shape(TRIANGLE, "linestrip"), "it is a linestrip, which has no box"),
    "unknown": (shape(kind=["cube"]), r"its shape_type is \['cube'\]; known: polygon"),
    "two points": (shape(RECTANGLE, "polygon"), "its polygon has 2 points; it needs three"),
    "one point": (shape([[3, 4]]), "its rectangle has 1 points; it needs two"),
    "no points": (shape([]), r"its points are \[\], not a list of x, y"),
    "text": (shape([["3", 4], [5, 6]]), "not a finite number"),
    "nan": (shape([[float("nan"), 4], [5, 6]]), "not a finite number"),
    "huge": (shape([[10**400, 4], [5, 6]]), "not a finite number"),
    "no label": (shape(label=None), "its label is None, not a class name"),
    "control": (shape(label="c\nat"), "control characters"),
    "surrogate": (shape(label="\ud800"), "control characters"),
    "not an object": ("cat", "'cat' is not an object"),
    "no area": (shape([[3, 4], [3, 9]]), "has no area"),
    "outside": (shape([[41, 4], [50, 9]]), "lies outside the image"),
    "mask": (shape([[1, 1], [5, 5]], "mask", mask="AAAA"), "its mask is not a PNG file"),
    "large mask": (
        shape([[1, 1], [5, 5]], "mask", mask=png(np.ones((30, 9), bool))),
        "larger than the image",
    ),
}


@pytest.mark.parametrize(("bad", "problem"), BAD_SHAPES.values(), ids=BAD_SHAPES)
def test_a_bad_shape_is_named_or_skipped_and_its_place_is_unknown(tmp_path, bad, problem):
    store(tmp_path, document(shape(), bad))
    with pytest.raises(EffkerasError, match=rf"a\.json: shape 2 .*{problem}.*--skip-bad") as error:
        read(tmp_path, masks=True)
    assert "\n" not in str(error.value)
    data = read(tmp_path, skip_bad=True, masks=True)
    (record,) = data.records
    assert (len(record.boxes), len(record.unknown), len(data.skipped)) == (1, 1, 1)


def test_a_shape_beyond_the_image_is_clipped_and_counted(tmp_path):
    data = read(store(tmp_path, document(shape([[30, 4], [45, 9]]))))
    assert data.records[0].boxes[0, 3] == 40
    assert data.clipped == ("a.json: shape 1 ('cat')",)


BAD_FILES = {
    "broken": ('{"shapes": [', "not valid JSON"),
    "deep": ('{"shapes": ' + "[" * 100_000, "not valid JSON"),
    "shapes": (document(shapes={}), "'shapes' is missing or not a list"),
    "size": (document(imageHeight=10**9), "state a size of 40 x 1000000000 pixels"),
}


@pytest.mark.parametrize(("text", "problem"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named(tmp_path, text, problem):
    store(store(tmp_path), text, "b")
    with pytest.raises(EffkerasError, match=rf"1 of 2 images .*b\.json: .*{problem}"):
        read(tmp_path)
    assert len(read(tmp_path, skip_bad=True).records) == 1


@pytest.mark.parametrize(
    "path", ["a.jpg", "..\\images\\a.jpg", "/home/me/a.jpg", "C:\\me\\a.jpg", None, "A.JPG"]
)
def test_the_image_is_found(tmp_path, path):
    store(tmp_path / "annotations", document(imagePath=path))
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations" / "a.jpg").rename(tmp_path / "images" / "a.jpg")
    (record,) = read(tmp_path).records
    assert record.path == tmp_path / "images" / "a.jpg"


def test_the_name_of_the_file_decides(tmp_path, capsys):
    store(store(tmp_path), document(imagePath="a.jpg"), "b")
    assert [record.path.name for record in read(tmp_path).records] == ["a.jpg", "b.jpg"]
    noted = capsys.readouterr().err
    assert (
        "1 files name another image than that with their own name, which is used; the first: b.json" in noted
    )


@pytest.mark.parametrize("name", ["c.jpg", "x\0.jpg", "../c.jpg", "", 7])
def test_a_missing_image_is_named(tmp_path, name):
    store(store(tmp_path), document(imagePath=name), "b")
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(EffkerasError, match=r"1 of 2 images .*b\.json: .*(no image file|not a file name)"):
        read(tmp_path)


def test_two_files_for_one_image_are_refused(tmp_path):
    store(tmp_path)
    (tmp_path / "b.json").write_text(document())
    with pytest.raises(EffkerasError, match=r"1 of 2 images .*b\.json: a\.jpg has another JSON file already"):
        read(tmp_path)


def test_a_renamed_json_file_uses_the_image_that_it_names(tmp_path):
    store(tmp_path, stem="b")
    (tmp_path / "b.jpg").rename(tmp_path / "a.jpg")
    assert [record.path.name for record in read(tmp_path).records] == ["a.jpg"]


def test_images_without_a_file_and_other_files_are_counted(tmp_path, capsys):
    store(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "b.jpg")
    (tmp_path / "notes.json").write_text("{}")
    assert len(read(tmp_path).records) == 1
    noted = capsys.readouterr().err
    assert "1 images without a JSON file are left out; the first: b.jpg" in noted
    assert "1 JSON files are not LabelMe's; the first: notes.json" in noted


def test_an_image_without_shapes_is_background(tmp_path):
    store(store(tmp_path), document(shapes=[]), "b")
    assert [len(record.boxes) for record in read(tmp_path).records] == [1, 0]


def test_a_missing_size_is_read_from_the_image(tmp_path):
    store(tmp_path, document(imageHeight=None, imageWidth=0))
    assert read(tmp_path).records[0].size == (20, 40)


def test_folders_are_splits(tmp_path):
    store(tmp_path / "train")
    store(tmp_path / "val")
    assert LabelMe().splits(tmp_path) == ["train", "val"]
    assert open_data(tmp_path, "val").records[0].path == tmp_path / "val" / "a.jpg"
    with pytest.raises(EffkerasError, match="no split 'test'; splits found: train, val"):
        read(tmp_path, "test")


def test_labels_give_the_order_of_classes(tmp_path):
    store(tmp_path, document(shape(), shape(label="ant")))
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nzebra\ncat\n")
    data = read(tmp_path, skip_bad=True)
    assert data.labels == ("zebra", "cat")
    assert data.skipped[0].why == "its class 'ant' is not in the data set's list of classes"
    (tmp_path / "labels.txt").write_text("cat\ncat\n")
    with pytest.raises(EffkerasError, match=r"labels\.txt: two classes are named 'cat'"):
        read(tmp_path)


# writing


@given(contents(), contents())
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read(train, test):
    assert_round_trip(LabelMe(), train, test)


def test_masks_and_crowds_are_written(tmp_path):
    boxes = [([2, 2, 18, 30], 0), ([1, 1, 19, 12], 1), ([4, 4, 8, 8], 2)]
    data = data_set(tmp_path / "in", "train", [((20, 32), boxes)])
    pixels = np.zeros((20, 32), bool)
    pixels[1:6, 1:4] = pixels[9:19, 5:12] = True
    parts = [np.array([[x, y], [x + 8, y], [x + 8, y + 6]], np.float32) for x, y in ((2, 2), (22, 12))]
    masks = (Polygons(tuple(parts)), RunLengths(np.array(encode_rle(pixels)["counts"])), None)
    record = replace(data.records[0], masks=masks, crowd=np.array([False, True, False]))
    data = replace(data, records=(record,))
    LabelMe().write(tmp_path / "in", [data])
    read_back = read(tmp_path / "in", "train", masks=True)
    assert_same(read_back, data)
    theirs = read_back.records[0].masks
    np.testing.assert_array_equal(theirs[0].points, parts)
    np.testing.assert_array_equal(pixels_of(theirs[1], (20, 32)), pixels)
    assert theirs[2] is None


def test_the_files_have_what_labelme_loads(tmp_path):
    """The keys that labelme 5.5's `LabelFile.load` reads without a default, and its types."""
    data = data_set(tmp_path / "in", "train", [((20, 30), [([2, 3, 12, 20.5], 0)])])
    LabelMe().write(tmp_path, [data])
    content = json.loads((tmp_path / "train" / "train 1.json").read_text("utf-8"))
    assert (tmp_path / "train" / content["imagePath"]).is_file()
    assert content["imageData"] is None
    assert (content["imageHeight"], content["imageWidth"]) == (20, 30)
    assert content["version"].split(".")[0] == "5"
    (one,) = content["shapes"]
    assert one["points"] == [[3, 2], [20.5, 12]]
    assert (one["label"], one["shape_type"], one["group_id"]) == (LABELS[0], "rectangle", None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_only_our_own_errors_come_out_of_damaged_files(data):
    """Bytes are replaced and cut off, or values anywhere in the file have another type."""
    text = document(
        shape(), shape(TRIANGLE, "polygon", group_id=1), shape([[1, 1], [5, 5]], "mask", mask="AA")
    )
    if data.draw(st.booleans()):
        content = damaged(data, text.encode())
    else:
        whole = json.loads(text)
        place = data.draw(st.sampled_from([whole, *whole["shapes"]]))
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(VALUES)
        content = bytearray(json.dumps(whole).encode())
    with tempfile.TemporaryDirectory() as folder:
        store(store(Path(folder)), "", "b")
        Path(folder, "b.json").write_bytes(content)
        assert_only_our_errors(LabelMe(), Path(folder))
