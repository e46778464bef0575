"""Samples are the images as the network sees them; bad images are counted, not fatal."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image
from support.tiny import tiny_detector

from effkeras.data import store as store_module
from effkeras.data.images import read_image
from effkeras.data.preprocess import place
from effkeras.data.reading import RecordReader
from effkeras.data.splits import open_data
from effkeras.data.store import ImageStore, padded
from effkeras.detection.boxes import anchor_boxes
from effkeras.support.errors import EffkerasError
from effkeras.training.pipeline import BatchSpec, training_batches

SPEC = tiny_detector().input


@pytest.fixture
def many(digits, tmp_path):
    """200 records, the first of which can be broken by a test."""
    data = open_data(digits, "train")
    first = tmp_path / "first.jpg"
    shutil.copy(data.records[0].path, first)
    broken = dataclasses.replace(data.records[0], path=first)
    records = (broken, *data.records[1:])
    return dataclasses.replace(data, records=records * 1 + data.records[1:] * 8), first


def test_sample_is_the_placed_image(digits):
    data = open_data(digits, "train")
    sample = ImageStore(data, SPEC)[3]
    placed = place(read_image(data.records[3].path), SPEC)
    np.testing.assert_array_equal(sample.pixels, placed.content)
    np.testing.assert_allclose(sample.boxes, data.records[3].boxes, atol=1e-4)
    np.testing.assert_array_equal(sample.classes, data.records[3].classes)


def test_wide_images_are_scaled_with_their_boxes(digits):
    data = open_data(digits, "train")
    wide = dataclasses.replace(SPEC, size=(64, 128))
    sample = ImageStore(data, wide)[0]
    assert tuple(sample.content) == (64, 64)
    assert (sample.pixels[:, 64:] == 0).all()


def test_one_bad_image_in_many_is_left_out(many, capsys):
    data, first = many
    first.write_bytes(first.read_bytes()[:200])
    store = ImageStore(data, SPEC)
    assert len(store) == len(data.records) - 1
    assert "left out 1 of" in capsys.readouterr().err


def test_many_bad_images_are_an_error(digits, tmp_path):
    data = open_data(digits, "train")
    gone = dataclasses.replace(data.records[0], path=tmp_path / "gone.jpg")
    with pytest.raises(EffkerasError, match=r"1 of 24 images cannot be used.*gone\.jpg"):
        ImageStore(dataclasses.replace(data, records=(gone, *data.records[1:])), SPEC)


@pytest.mark.parametrize("memory", [0, 2**31])
def test_many_bad_images_may_be_skipped(digits, tmp_path, monkeypatch, capsys, memory):
    monkeypatch.setattr(store_module, "MEMORY_BUDGET", memory)
    data = open_data(digits, "train", skip_bad=True)
    gone = tuple(dataclasses.replace(one, path=tmp_path / "gone" / one.path.name) for one in data.records)
    store = ImageStore(dataclasses.replace(data, records=(*gone[:9], *data.records[9:])), SPEC)
    np.testing.assert_allclose(store[0].boxes, data.records[9].boxes, atol=1e-4)
    if memory:
        assert len(store) == len(data.records) - 9
        assert "the split 'train': left out 9 of 24 images that cannot be used" in capsys.readouterr().err
    with pytest.raises(EffkerasError, match="none of its images can be used"):
        ImageStore(dataclasses.replace(data, records=gone), SPEC)[0]


def test_without_memory_images_are_read_on_demand(many, monkeypatch, capsys):
    data, first = many
    whole = ImageStore(data, SPEC)
    monkeypatch.setattr(store_module, "MEMORY_BUDGET", 0)
    lazy = ImageStore(data, SPEC)
    np.testing.assert_array_equal(lazy[5].pixels, whole[5].pixels)
    first.write_bytes(b"")
    for _ in range(2):
        np.testing.assert_array_equal(lazy[0].pixels, whole[1].pixels)
    said = capsys.readouterr().err
    assert said.count("first.jpg") == 1
    assert "above the limit of 0 GiB: they are decoded again in each epoch" in said


def held_bytes(held) -> int:
    return sum(getattr(held, one.name).nbytes for one in dataclasses.fields(held))


@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_the_memory_that_is_counted_is_what_is_held(digits, size):
    """Images that fill half of their input take half of its bytes."""
    data, spec = open_data(digits, "train"), dataclasses.replace(SPEC, size=size)
    whole = ImageStore(data, spec)
    held = sum(map(held_bytes, whole._cache))
    assert held == pytest.approx(24 * 64 * 64 * 3, rel=0.1)
    counted = held + 24 * 1024  # and the objects around the arrays
    assert ImageStore(data, spec, memory=counted)._cache is not None
    lazy = ImageStore(data, spec, memory=held)
    assert lazy._cache is None
    for field in dataclasses.fields(lazy[3]):
        np.testing.assert_array_equal(getattr(lazy[3], field.name), getattr(whole[3], field.name))


def test_a_crop_does_not_keep_its_image(digits):
    cropped = dataclasses.replace(SPEC, size=(32, 32), resize="center-crop", crop=0.5)
    pixels = ImageStore(open_data(digits, "train"), cropped)._cache[0].pixels
    assert pixels.base is None or pixels.base.nbytes == pixels.nbytes


def test_many_bad_images_are_an_error_on_demand_too(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "MEMORY_BUDGET", 0)
    data = open_data(digits, "train")
    gone = dataclasses.replace(data.records[0], path=tmp_path / "gone.jpg")
    lazy = ImageStore(dataclasses.replace(data, records=(gone, *data.records[1:])), SPEC)
    with pytest.raises(EffkerasError, match=r"1 of 24 images cannot be used.*gone\.jpg"):
        lazy[0]


def crowded(digits, count: int):
    """The training split with `count` boxes in its second image, each of which has an anchor of its own."""
    data = open_data(digits, "train")
    boxes = anchor_boxes(tiny_detector())[:count]
    classes, crowd, areas = np.zeros(count, np.int64), np.zeros(count, bool), np.full(count, 64, np.float32)
    record = dataclasses.replace(data.records[1], boxes=boxes, classes=classes, crowd=crowd, areas=areas)
    return dataclasses.replace(data, records=(data.records[0], record, *data.records[2:]))


def test_all_boxes_of_an_image_are_used(digits):
    """The trap: boxes beyond the hundredth were trained as background."""
    data = crowded(digits, 300)
    store = ImageStore(data, SPEC)
    np.testing.assert_allclose(store[1].boxes, data.records[1].boxes, atol=1e-4)
    fields = padded([store[0], store[1]])
    assert [field.shape[1] for field in fields[2:5]] == [300, 300, 300]
    assert (fields[3][0] >= 0).sum() == len(data.records[0].boxes)
    spec = tiny_detector()
    batches = training_batches(store, spec, BatchSpec(24, 0, None), range(1))
    ((_, targets),) = batches.as_numpy_iterator()
    assert (targets["class_logits"] >= 0).sum(axis=1).max() >= 300


def scaled_file(data, folder, size):
    """The split with its first image file scaled to (width, height), and the labels as they are."""
    path = folder / "scaled.png"
    with Image.open(data.records[0].path) as image:
        image.resize(size).save(path)
    return dataclasses.replace(
        data, records=(dataclasses.replace(data.records[0], path=path), *data.records[1:])
    )


@pytest.mark.parametrize("memory", [0, 2**31])
def test_boxes_go_with_an_image_that_was_scaled(digits, tmp_path, monkeypatch, capsys, memory):
    monkeypatch.setattr(store_module, "MEMORY_BUDGET", memory)
    data = open_data(digits, "train")
    halved = scaled_file(data, tmp_path, (32, 32))
    store = ImageStore(halved, SPEC)
    for _ in range(2):
        np.testing.assert_allclose(store[0].boxes, data.records[0].boxes, atol=1e-4)
    assert capsys.readouterr().err.count("scaled.png has 32 x 32 pixels and its labels say 64 x 64") == 1


def test_an_image_of_another_shape_than_its_labels_is_refused(digits, tmp_path):
    data = scaled_file(open_data(digits, "train"), tmp_path, (48, 64))
    with pytest.raises(EffkerasError, match=r"scaled\.png has 48 x 64 pixels and its labels say 64 x 64"):
        ImageStore(data, SPEC)


def test_a_lost_turn_is_named(digits, tmp_path):
    data = scaled_file(open_data(digits, "train"), tmp_path, (48, 64))
    turned = dataclasses.replace(data.records[0], size=(48, 64))
    with pytest.raises(EffkerasError, match="before its EXIF turn"):
        RecordReader(SPEC).read(turned)


@pytest.mark.parametrize(
    ("size", "stated"), [((667, 1000), (1333, 2000)), ((1, 1), (1, 1)), ((3, 4), (6, 9))]
)
def test_a_side_may_be_rounded(tmp_path, digits, size, stated):
    record = open_data(digits, "train").records[0]
    path = tmp_path / "rounded.png"
    Image.new("RGB", size[::-1]).save(path)
    placed = RecordReader(SPEC).read(dataclasses.replace(record, path=path, size=stated))
    assert placed.placement.size == stated
