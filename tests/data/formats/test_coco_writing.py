"""COCO's files as we write them: round trips, masks, and what other readers make of them."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO
from support.data_sets import (
    REAL,
    assert_only_our_errors,
    assert_same,
    contents,
    data_set,
    needs_bccd,
)

from effkeras.data.formats.coco import Coco
from effkeras.data.records import Category, ClassificationData, Polygons, ReadOptions, RunLengths
from effkeras.data.segmentations import encode_rle, pixels_of
from effkeras.data.splits import open_data
from effkeras.support.errors import EffkerasError

# pycocotools' arrays predate numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ONE_BOX = [((20, 30), [([2.0, 3.0, 12.0, 23.0], 1), ([5.0, 5.0, 15.0, 25.0], 3)])]


def write(root, *splits):
    root.mkdir(exist_ok=True)
    Coco().write(root, splits)
    return root


def read(root, split="train", **options):
    return Coco().read(root, split, ReadOptions(**options))


def changed(data, **changes):
    """The data with changes to its first record."""
    return replace(data, records=(replace(data.records[0], **changes), *data.records[1:]))


def in_pycocotools(root, split="train"):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(root / split / "labels.json"))


@settings(max_examples=25, deadline=None)
@given(contents(), contents())
def test_what_is_written_is_read(train, val):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        splits = [data_set(root / "own", name, one) for name, one in (("train", train), ("val", val))]
        write(root / "out", *splits)
        assert Coco().splits(root / "out") == ["train", "val"]
        for data in splits:
            found = read(root / "out", data.split)
            assert_same(found, data, pixels=0.001)
            assert found.categories == data.categories
            assert [one.image_id for one in found.records] == [one.image_id for one in data.records]


def test_ids_of_categories_are_kept_and_image_ids_are_unique(tmp_path):
    data = data_set(tmp_path / "own", "train", ONE_BOX * 2)
    categories = tuple(Category(7 * number, f"class {number}") for number in range(1, 7))
    records = tuple(replace(record, image_id=90) for record in data.records)
    write(tmp_path / "out", replace(data, categories=categories, records=records))
    found = read(tmp_path / "out")
    assert found.categories == categories
    assert [record.image_id for record in found.records] == [1, 2]


TRIANGLE = Polygons((np.array([[3, 2], [23, 2], [13, 12.25]], np.float32),))
CROSS = np.zeros((20, 30), bool)
CROSS[7:9, 5:25] = CROSS[5:15, 12:14] = True


def test_masks_are_written_as_pycocotools_reads_them(tmp_path):
    run_lengths = RunLengths(np.array(encode_rle(CROSS)["counts"], np.int64))
    data = changed(data_set(tmp_path / "own", "train", ONE_BOX), masks=(TRIANGLE, run_lengths))
    root = write(tmp_path / "out", data)
    judge = in_pycocotools(root)
    (found,) = read(root, masks=True).records
    for position, annotation in enumerate(judge.loadAnns(judge.getAnnIds())):
        pixels = judge.annToMask(annotation).astype(bool)
        np.testing.assert_array_equal(pixels, pixels_of(data.records[0].masks[position], (20, 30)))
        np.testing.assert_array_equal(pixels, pixels_of(found.masks[position], (20, 30)))


def test_boxes_without_a_mask_and_crowds_survive(tmp_path):
    data = data_set(tmp_path / "own", "train", ONE_BOX)
    data = changed(data, masks=(None, TRIANGLE), crowd=np.array([True, False]))
    (found,) = read(write(tmp_path / "out", data), masks=True).records
    assert found.masks[0] is None
    np.testing.assert_array_equal(found.masks[1].points[0], TRIANGLE.points[0])
    assert found.crowd.tolist() == [True, False]


def test_unknown_regions_become_crowds_of_every_class(tmp_path, capsys):
    region = np.array([[0, 0, 5, 30]], np.float32)
    data = changed(data_set(tmp_path / "own", "train", ONE_BOX), unknown=region, masks=(TRIANGLE, None))
    (found,) = read(write(tmp_path / "out", data), masks=True).records
    assert found.crowd.tolist() == [False, False, *[True] * 6]
    np.testing.assert_array_equal(found.boxes[2:], np.tile(region, (6, 1)))
    assert found.classes[2:].tolist() == [0, 1, 2, 3, 4, 5]
    assert "the 1 regions of bad annotations in train become 6 crowds" in capsys.readouterr().err.replace(
        "\n", " "
    )


def test_too_many_unknown_regions_are_left_out(tmp_path, capsys):
    regions = np.tile(np.array([[0, 0, 5, 30]], np.float32), (200, 1))
    data = changed(data_set(tmp_path / "own", "train", ONE_BOX), unknown=regions)
    assert len(read(write(tmp_path / "out", data)).records[0].boxes) == 2
    assert "the 200 regions of bad annotations in train are left out" in capsys.readouterr().err.replace(
        "\n", " "
    )


def test_label_maps_are_copied(tmp_path):
    label_map = tmp_path / "map.png"
    Image.new("L", (30, 20), 3).save(label_map)
    data = changed(data_set(tmp_path / "own", "train", ONE_BOX), masks=label_map)
    root = write(tmp_path / "out", data)
    assert read(root, masks=True).records[0].masks == root / "train" / "masks" / "train 1.png"
    with pytest.raises(EffkerasError, match="values of other classes"):
        write(tmp_path / "again", replace(data, map_classes=(1, 0)))


def test_data_without_boxes_is_refused(tmp_path):
    data = data_set(tmp_path / "own", "train", [((9, 9), [])])
    with pytest.raises(EffkerasError, match="the split 'train' has no boxes"):
        write(tmp_path / "out", data)
    with pytest.raises(EffkerasError, match="COCO holds boxes, and these images have classes only"):
        write(tmp_path / "out", ClassificationData(tmp_path, "train", ("a",), ()))


def test_supervision_reads_the_boxes(tmp_path):
    root = write(tmp_path / "out", data_set(tmp_path / "own", "train", ONE_BOX))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import supervision

        found = supervision.DetectionDataset.from_coco(
            str(root / "train" / "images"), str(root / "train" / "labels.json")
        )
        ((_, _, objects),) = list(found)
    np.testing.assert_allclose(objects.xyxy, [[3, 2, 23, 12], [5, 5, 25, 15]])
    assert [found.classes[label] for label in objects.class_id] == ["Straße 7", "日本"]


@needs_bccd
def test_real_labels_survive(tmp_path):
    for split in ("val", "test"):
        data = open_data(REAL / "bccd", split, skip_bad=True)
        data = replace(data, records=tuple(replace(one, unknown=one.unknown[:0]) for one in data.records))
        assert_same(read(write(tmp_path / "out", data), split), data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_only_our_own_errors_come_out_of_damaged_files(data):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        own = data_set(root / "own", "train", ONE_BOX)
        path = write(root / "out", changed(own, masks=(TRIANGLE, None))) / "train" / "labels.json"
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans(), "truncated"):
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        for _ in range(data.draw(st.integers(1, 4))):
            if content:
                place = data.draw(st.integers(0, len(content) - 1))
                content[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        assert_only_our_errors(Coco(), root / "out")
        with contextlib.suppress(EffkerasError):
            read(root / "out", masks=True)


@pytest.mark.parametrize("masks", [False, True])
def test_files_for_json_are_read_like_others(tmp_path, masks):
    root = write(
        tmp_path / "out", changed(data_set(tmp_path / "own", "train", ONE_BOX), masks=(TRIANGLE, None))
    )
    before = read(root, masks=masks)
    path = root / "train" / "labels.json"
    content = json.loads(path.read_text())
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({**content, "info": {"score": float("nan")}}).encode())
    after = read(root, masks=masks)
    assert_same(after, before, pixels=0)
    assert len(after.records[0].masks) == len(before.records[0].masks) == 2 * masks
