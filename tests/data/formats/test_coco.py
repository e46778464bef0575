"""COCO labels: round trips, what bad files say, and masks as pycocotools understands them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from effkeras.data.formats import coco_json
from effkeras.data.formats.coco import Coco, read_coco, write_coco
from effkeras.data.records import Category, DetectionRecord
from effkeras.data.segmentations import encode_rle, trace_polygons
from effkeras.support.errors import EffkerasError

# pycocotools' arrays predate numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATEGORIES = (Category(3, "cat"), Category(7, "dog"), Category(90, "newt"))


def document(**changes):
    """Labels of two images, one of them background, with `changes` to the only annotation."""
    annotation = {"id": 5, "image_id": 1, "category_id": 7, "bbox": [2, 3, 10, 20], "area": 150, "iscrowd": 0}
    return {
        "images": [
            {"id": 1, "file_name": "a.jpg", "height": 40, "width": 30},
            {"id": 2, "file_name": "b.jpg", "height": 50, "width": 60},
        ],
        "annotations": [{**annotation, **changes}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def store(root, content, names=("a.jpg", "b.jpg")):
    folder = root / "train" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / "train" / "labels.json").write_bytes(text)
    return root


def test_reads_our_layout(tmp_path):
    data = read_coco(store(tmp_path, document(iscrowd=1)), "train")
    assert data.labels == ("cat", "dog")
    assert [record.path.name for record in data.records] == ["a.jpg", "b.jpg"]
    first, background = data.records
    assert first.size == (40, 30)
    np.testing.assert_array_equal(first.boxes, np.array([[3, 2, 23, 12]], np.float32))
    assert (first.classes.tolist(), first.crowd.tolist(), first.areas.tolist()) == ([1], [True], [150])
    assert (background.boxes.shape, background.boxes.dtype) == ((0, 4), np.float32)
    assert background.classes.dtype == np.int64
    assert data.skipped == ()


def store_official(root, names=("val2017",), nested=False):
    (root / "annotations").mkdir()
    for name in names:
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(document()))
        folder = root / "images" / name if nested else root / name
        folder.mkdir(parents=True)
        for image in ("a.jpg", "b.jpg"):
            (folder / image).touch()
    return root


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("split", ["val", "val2017"])
def test_reads_the_official_layout(tmp_path, split, nested):
    data = read_coco(store_official(tmp_path, nested=nested), split)
    assert [record.path.parent.name for record in data.records] == ["val2017"] * 2
    assert Coco().splits(tmp_path) == ["val2017"]


def test_an_ambiguous_split_is_an_error(tmp_path):
    root = store_official(tmp_path, ("val2014", "val2017"))
    with pytest.raises(EffkerasError, match="could be val2014 or val2017; give the whole name"):
        read_coco(root, "val")
    assert len(read_coco(root, "val2014").records) == 2


def test_a_missing_split_lists_the_others(tmp_path):
    with pytest.raises(
        EffkerasError, match=r"no split 'tset'; splits found: train; layout: .*instances_SPLIT"
    ):
        read_coco(store(tmp_path, document()), "tset")


def test_a_split_may_not_lead_out(tmp_path):
    (tmp_path / "data").mkdir()
    store(tmp_path, document())
    with pytest.raises(EffkerasError, match=r"no split '\.\./train'; splits found: none"):
        read_coco(tmp_path / "data", "../train")


BAD_ANNOTATIONS = {
    "left of it": (
        {"bbox": [-11.5, 3, 10, 20]},
        r"its box \[-11.5, 3, 10, 20\] lies outside the image \(30 x 40\)",
    ),
    "beyond it": ({"bbox": [30.2, 3, 0.5, 20]}, "lies outside the image"),
    "no width": ({"bbox": [2, 3, 0, 20]}, "has no area"),
    "negative": ({"bbox": [2, 3, 10, -20]}, "has no area"),
    "nan": ({"bbox": [2, float("nan"), 10, 20]}, "not a finite number"),
    "infinite": ({"bbox": [2, 3, float("inf"), 20]}, "not a finite number"),
    "huge": ({"bbox": [2, 3, 10**400, 20]}, "not a finite number"),
    "text": ({"bbox": [2, 3, "10", 20]}, "not a finite number"),
    "three values": ({"bbox": [2, 3, 10]}, "not x, y, width, height"),
    "no box": ({"bbox": None}, "its bbox is None, not x, y, width, height"),
    "class": ({"category_id": 8}, "category_id is 8, which the file does not define"),
    "class type": ({"category_id": [7]}, "category_id is"),
    "no class": ({"category_id": None}, "category_id is missing"),
    "huge class": ({"category_id": 2**70}, "category_id is 1180591620717411303424, which the file"),
    "image": ({"image_id": 9}, "image_id is 9, which the file does not define"),
    "no image": ({"image_id": None}, "image_id is missing"),
    "area": ({"area": -1}, "area is -1, not a positive number"),
    "area nan": ({"area": float("nan")}, "area is nan, not a positive number"),
    "area huge": ({"area": 1e300}, r"area is 1e\+300, not a positive number"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_ANNOTATIONS.values(), ids=BAD_ANNOTATIONS)
def test_a_bad_annotation_is_named_or_skipped(tmp_path, changes, message):
    content = document(**changes)
    content["annotations"].append(document(id=6)["annotations"][0])
    store(tmp_path, content)
    with pytest.raises(EffkerasError, match=message) as error:
        read_coco(tmp_path, "train")
    assert str(error.value).startswith(f"{tmp_path}/train/labels.json: annotation 5: ")
    assert "--skip-bad" in str(error.value)
    assert "\n" not in str(error.value)
    data = read_coco(tmp_path, "train", skip_bad=True)
    assert [skipped.what for skipped in data.skipped] == [f"{tmp_path}/train/labels.json: annotation 5"]
    assert len(data.records[0].boxes) == 1
    assert sum(len(record.unknown) for record in data.records) == ("image_id" not in changes)


def test_an_annotation_without_id_is_named_by_position(tmp_path):
    content = document()
    content["annotations"].append("nonsense")
    with pytest.raises(EffkerasError, match="annotation at position 1: 'nonsense' is not an object"):
        read_coco(store(tmp_path, content), "train")


def test_up_to_a_pixel_outside_is_clipped(tmp_path):
    data = read_coco(store(tmp_path, document(bbox=[-1, -0.5, 32, 41.5])), "train")
    np.testing.assert_array_equal(data.records[0].boxes, np.array([[0, 0, 40, 30]], np.float32))


def test_more_than_a_pixel_outside_is_clipped_and_counted(tmp_path):
    data = read_coco(store(tmp_path, document(bbox=[25, 3, 10, 20])), "train")
    np.testing.assert_array_equal(data.records[0].boxes, np.array([[3, 25, 23, 30]], np.float32))
    assert data.clipped == (f"{tmp_path}/train/labels.json: annotation 5",)


@pytest.mark.parametrize("area", [None, 0, 0.0])
def test_a_missing_area_is_that_of_the_box_or_mask(tmp_path, area):
    store(tmp_path, document(area=area, segmentation=[[2, 3, 12, 3, 12, 23]]))
    assert read_coco(tmp_path, "train").records[0].areas == [200]
    assert read_coco(tmp_path, "train", masks=True).records[0].areas == [100]
    store(tmp_path, document(area=area, segmentation={"size": [40, 30], "counts": [0, 7, 1193]}))
    assert read_coco(tmp_path, "train", masks=True).records[0].areas == [7]


def changed(key, value):
    return {**document(), key: value}


def with_image(**changes):
    content = document()
    content["images"][1].update(changes)
    return content


def with_category(position, **changes):
    content = document()
    content["categories"][position].update(changes)
    return content


BAD_FILES = {
    "broken": (b'{"images": [', "not valid JSON"),
    "binary": (b"\xff\xd8\xff\xe0", "not valid JSON"),
    "deep": (b"[" * 100_000, "not valid JSON"),
    "deep inside": (json.dumps(changed("info", 1)).encode().replace(b"1", b"[" * 100_000), "not valid JSON"),
    "list": ([], "holds a list"),
    "no images": ({"annotations": [], "categories": []}, "'images' is missing"),
    "annotations type": (changed("annotations", {}), "'annotations' is missing or not a list"),
    "empty": (changed("annotations", []), "no annotations at all"),
    "no categories": (changed("categories", []), "no categories at all"),
    "category type": (changed("categories", [7]), "category at position 0 has no whole 'id'"),
    "category without a name": (with_category(1, name=" "), "category at position 1: a class name is empty"),
    "category with a number": (with_category(1, name=3), "category at position 1 has no 'name'"),
    "line break": (with_category(1, name="a\nb"), "category at position 1: .* control characters"),
    "surrogate": (with_category(1, name="\ud800"), "category at position 1: .* control characters"),
    "category twice": (with_category(1, id=7), "category id 7 occurs twice"),
    "category id": (with_category(1, id=2**63), r"the id 9223372036854775808; .* below 2\*\*63"),
    "huge category id": (with_category(1, id=10**400), "category at position 1 has the id"),
    "one name": (with_category(1, name=" dog"), "two categories are named 'dog'"),
    "image twice": (with_image(id=1), "image id 1 occurs twice"),
    "image id": (with_image(id=True), "image at position 1 has the id True; give it a whole number"),
    "no image id": (with_image(id=None), "image at position 1 has no whole 'id'"),
    "image type": (changed("images", [3]), "image at position 0"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_clear_line(tmp_path, content, message):
    store(tmp_path, content)
    with pytest.raises(EffkerasError, match=message) as error:
        read_coco(tmp_path, "train", skip_bad=True)
    assert str(tmp_path / "train" / "labels.json") in str(error.value)
    assert "\n" not in str(error.value)


BAD_IMAGES = {
    "no name": ({"file_name": None}, "it has no 'file_name'"),
    "surrogate": ({"file_name": "\ud800.jpg"}, "is not valid Unicode"),
    "size": ({"height": -3}, "its 'height' and 'width' are -3 and 60, not numbers of pixels"),
    "half a size": ({"height": 0}, "its 'height' and 'width' are 0 and 60"),
    "leads out": ({"file_name": "../../b.jpg"}, "leads out of its folder"),
    "parent": ({"file_name": ".."}, "leads out of its folder"),
    "absolute": ({"file_name": "/b.jpg"}, "is absolute"),
    "null byte": ({"file_name": "x/\0"}, "is not a file name"),
    "missing": (
        {"file_name": "bb.jpg"},
        r"no image file 'bb.jpg' in .*images.*similar name there is 'b.jpg'",
    ),
    "folder": ({"file_name": "sub"}, "no image file 'sub'"),
    "no image": ({"height": None, "width": 0}, "not an image that Pillow can read"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_a_bad_image_is_named_or_skipped(tmp_path, changes, message):
    store(tmp_path, with_image(**changes))
    (tmp_path / "train" / "images" / "sub").mkdir()
    with pytest.raises(EffkerasError, match=f"1 of 2 images .*labels.json: image 2: .*{message}") as error:
        read_coco(tmp_path, "train")
    assert "\n" not in str(error.value)
    data = read_coco(tmp_path, "train", skip_bad=True)
    assert [skipped.what for skipped in data.skipped] == [f"{tmp_path}/train/labels.json: image 2"]
    assert len(data.records) == 1


def test_a_missing_size_is_read_from_the_image(tmp_path):
    store(tmp_path, with_image(height=None, width=None))
    Image.new("RGB", (7, 5)).save(tmp_path / "train" / "images" / "b.jpg")
    assert read_coco(tmp_path, "train").records[1].size == (5, 7)


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(
        EffkerasError, match=r"none of the 1 annotations of the split 'train' is usable; .* box"
    ):
        read_coco(store(tmp_path, document(bbox=[0, 0, 0, 0])), "train", skip_bad=True)


def test_a_missing_image_folder_is_an_error(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "labels.json").write_text(json.dumps(document()))
    with pytest.raises(EffkerasError, match=r"2 of 2 images .*no image file 'a.jpg' in .*train/images"):
        read_coco(tmp_path, "train")


@pytest.mark.parametrize(("total", "missing", "fine"), [(99, 1, False), (100, 1, True), (199, 2, False)])
def test_one_missing_image_in_a_hundred_is_tolerated(tmp_path, total, missing, fine):
    names = [f"{index}.jpg" for index in range(total)]
    content = document(image_id=total - 1)
    content["images"] = [
        {"id": index, "file_name": name, "height": 40, "width": 30} for index, name in enumerate(names)
    ]
    store(tmp_path, content, names[missing:])
    if not fine:
        with pytest.raises(EffkerasError, match=f"{missing} of {total} images .*: image 0: no image file"):
            read_coco(tmp_path, "train")
        return
    data = read_coco(tmp_path, "train")
    assert len(data.records) == total - missing
    assert data.skipped[0].what.endswith("labels.json: image 0")


def test_images_in_subfolders_and_links_are_found(tmp_path):
    content = with_image(file_name="sub\\b.jpg")
    store(tmp_path, content)
    images = tmp_path / "train" / "images"
    (images / "sub").mkdir()
    (images / "b.jpg").rename(images / "sub" / "b.jpg")
    (images / "a.jpg").rename(tmp_path / "elsewhere.jpg")
    (images / "a.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    assert len(read_coco(tmp_path, "train").records) == 2


def test_a_byte_order_mark_is_harmless(tmp_path):
    store(tmp_path, b"\xef\xbb\xbf" + json.dumps(document()).encode())
    assert len(read_coco(tmp_path, "train").records) == 2


@pytest.mark.parametrize("number", ["7", 7, 7.0])
def test_text_ids_that_are_numbers_are_those_numbers(tmp_path, number):
    content = document(id="5", image_id="1", category_id=number)
    content["categories"][0]["id"] = "7"
    content["images"][0]["id"] = "1"
    data = read_coco(store(tmp_path, content), "train")
    assert data.categories == (Category(3, "cat"), Category(7, "dog"))
    assert data.records[0].classes.tolist() == [1]


def test_other_text_ids_are_numbered_and_noted(tmp_path, capsys):
    content = document(image_id="a.jpg", category_id="canis")
    content["images"][0]["id"] = "a.jpg"
    content["images"][1]["id"] = 1
    content["categories"][0]["id"] = "canis"
    data = read_coco(store(tmp_path, content), "train")
    assert [record.image_id for record in data.records] == [2, 1]
    assert data.categories == (Category(1, "dog"), Category(3, "cat"))
    assert data.records[0].classes.tolist() == [0]
    noted = capsys.readouterr().err.replace("\n", " ")
    assert "image ids are texts, such as 'a.jpg'" in noted
    assert "category ids are texts, such as 'canis'" in noted


def test_text_ids_with_zeros_in_front_stay_apart(tmp_path):
    content = document(image_id="01")
    content["images"][0]["id"] = "01"
    content["images"][1]["id"] = "1"
    first, second = read_coco(store(tmp_path, content), "train").records
    assert (len(first.boxes), len(second.boxes), first.image_id, second.image_id) == (1, 0, 2, 1)


def test_two_categories_of_one_name_are_harmless_while_unused(tmp_path):
    content = document()
    content["categories"] += [{"id": 8, "name": "owl"}, {"id": 9, "name": "owl"}]
    assert read_coco(store(tmp_path, content), "train").labels == ("cat", "dog", "owl", "owl")


def roboflow(root, split, used=1):
    """A split as Roboflow exports it: category 0 groups the others."""
    folder = root / split
    folder.mkdir(parents=True)
    content = document(category_id=used)
    content["categories"] = [
        {"id": 0, "name": "cells", "supercategory": "none"},
        {"id": 1, "name": "RBC", "supercategory": "cells"},
        {"id": 2, "name": "WBC", "supercategory": "cells"},
    ]
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    for name in ("a.jpg", "b.jpg"):
        (folder / name).touch()


def test_roboflows_export_is_read_without_its_group(tmp_path):
    roboflow(tmp_path, "train")
    roboflow(tmp_path, "valid")
    assert Coco().splits(tmp_path) == ["train", "valid"]
    data = read_coco(tmp_path, "valid")
    assert data.labels == ("RBC", "WBC")
    assert data.records[0].classes.tolist() == [0]
    assert data.records[0].path == tmp_path / "valid" / "a.jpg"


def test_a_group_may_have_the_name_of_its_only_class(tmp_path):
    content = document(category_id=1)
    content["categories"] = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "cat"},
    ]
    assert read_coco(store(tmp_path, content), "train").categories == (Category(1, "cat"),)


def test_a_group_with_annotations_is_a_class(tmp_path):
    roboflow(tmp_path, "train", used=0)
    assert read_coco(tmp_path, "train").labels == ("cells", "RBC", "WBC")


@st.composite
def some_records(draw):
    """Images with boxes at least a pixel large, in float32, somewhere inside."""
    records = []
    for identity in range(draw(st.integers(1, 3))):
        size = (draw(st.integers(4, 3000)), draw(st.integers(4, 3000)))
        count = draw(st.integers(0 if identity else 1, 4))
        corners = [[draw(pair(side)) for side in size] for _ in range(count)]
        boxes = np.array([[y[0], x[0], y[1], x[1]] for y, x in corners], np.float32).reshape(-1, 4)
        classes = np.array([draw(st.integers(0, 2)) for _ in range(count)], np.int64)
        crowd = np.array([draw(st.booleans()) for _ in range(count)], bool)
        areas = np.array([draw(st.floats(0.5, 1e6, width=32)) for _ in range(count)], np.float32)
        records.append(DetectionRecord(Path(f"{identity}.jpg"), identity, size, boxes, classes, crowd, areas))
    return records


@st.composite
def pair(draw, side):
    first = draw(st.floats(0, side - 2, width=32))
    return first, draw(st.floats(first + 1, side)) if first + 1 < side else side


@settings(max_examples=60, deadline=None)
@given(some_records())
def test_what_is_written_is_read(records):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "val" / "images").mkdir(parents=True)
        for record in records:
            (root / "val" / "images" / record.path.name).touch()
        write_coco(root / "val", CATEGORIES, records)
        data = read_coco(root, "val")
    assert data.categories == CATEGORIES
    for written, read in zip(records, data.records, strict=True):
        assert (read.image_id, read.size, read.path.name) == (
            written.image_id,
            written.size,
            written.path.name,
        )
        for name in ("boxes", "classes", "crowd", "areas"):
            np.testing.assert_array_equal(getattr(read, name), getattr(written, name))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated(draw):
    """The valid document with one value anywhere in it replaced or removed."""
    content = document()
    here = content
    while True:
        key = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], dict | list) or draw(st.integers(0, 3)) == 0:
            break
        here = here[key]
    if draw(st.booleans()):
        here[key] = draw(VALUES)
    else:
        del here[key]
    return json.dumps(content).encode()


@settings(max_examples=300, deadline=None)
@given(
    mutated() | VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40), st.booleans()
)
def test_nothing_but_our_own_error_comes_out(content, skip_bad):
    with tempfile.TemporaryDirectory() as temporary:
        root = store(Path(temporary), content)
        try:
            data = read_coco(root, "train", skip_bad=skip_bad)
        except EffkerasError:
            return
    for record in data.records:
        top, left, bottom, right = record.boxes.T
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (top < bottom).all()
        assert (left < right).all()
        assert (bottom <= record.size[0]).all()
        assert (right <= record.size[1]).all()


MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_run_lengths_decode_to_the_mask(mask):
    encoded = coco_mask.frPyObjects(encode_rle(mask), *mask.shape)
    np.testing.assert_array_equal(coco_mask.decode(encoded), mask)


def fill(polygon, shape):
    """Pixels whose centre lies in a polygon, by the even-odd rule."""
    points = np.array(polygon).reshape(-1, 2)
    rows, columns = np.indices(shape) + 0.5
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, 0), strict=True):
        if y1 != y2:
            inside ^= (min(y1, y2) < rows) & (rows < max(y1, y2)) & (columns > x1) & (x1 == x2)
    return inside


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_polygons_cover_the_mask_with_holes_filled(mask):
    pieces = [fill(polygon, mask.shape) for polygon in trace_polygons(mask)]
    covered = np.any(pieces, axis=0) if pieces else np.zeros(mask.shape, bool)
    np.testing.assert_array_equal(covered, ndimage.binary_fill_holes(mask, np.ones((3, 3))))


def test_a_polygon_of_a_rectangle_has_four_corners():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    (polygon,) = trace_polygons(mask)
    assert set(zip(polygon[::2], polygon[1::2], strict=True)) == {(2, 1), (7, 1), (7, 4), (2, 4)}


def test_a_file_with_nan_is_not_read_by_json(tmp_path, monkeypatch):
    """json takes three times the memory: 2.8 GB for 300 MB."""
    monkeypatch.setattr(coco_json, "_by_json", lambda *_, **__: pytest.fail("read by json"))
    content = document()
    content["annotations"].append({**document(id=6)["annotations"][0], "area": float("nan")})
    content["images"][1]["file_name"] = 'a "NaN, b\\.jpg'
    (tmp_path / "labels.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    found = coco_json.load(tmp_path / "labels.json", masks=False)
    assert [one.file_name for one in found.images] == ["a.jpg", 'a "NaN, b\\.jpg']
    assert [one.area for one in found.annotations] == [150, ""]
