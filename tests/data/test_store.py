"""Samples are the pictures as the network sees them; bad pictures are counted, not fatal."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from tiny import tiny_detector

from effkeras.data import store as store_module
from effkeras.data.pictures import read_picture
from effkeras.data.splits import open_data
from effkeras.data.store import PictureStore
from effkeras.errors import EffkerasError
from effkeras.preprocess import place

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


def test_sample_is_the_placed_picture(digits):
    data = open_data(digits, "train")
    sample = PictureStore(data, SPEC)[3]
    placed = place(read_picture(data.records[3].path), SPEC)
    np.testing.assert_array_equal(sample.pixels, placed.content)
    count = len(data.records[3].boxes)
    np.testing.assert_allclose(sample.boxes[:count], data.records[3].boxes, atol=1e-4)
    assert (sample.classes[count:] == -1).all()


def test_wide_pictures_are_scaled_with_their_boxes(digits):
    data = open_data(digits, "train")
    wide = dataclasses.replace(SPEC, size=(64, 128))
    sample = PictureStore(data, wide)[0]
    assert tuple(sample.content) == (64, 64)
    assert (sample.pixels[:, 64:] == 0).all()


def test_one_bad_picture_in_many_is_left_out(many, capsys):
    data, first = many
    first.write_bytes(first.read_bytes()[:200])
    store = PictureStore(data, SPEC)
    assert len(store) == len(data.records) - 1
    assert "skipped 1 of" in capsys.readouterr().err


def test_many_bad_pictures_are_an_error(digits, tmp_path):
    data = open_data(digits, "train")
    gone = dataclasses.replace(data.records[0], path=tmp_path / "gone.jpg")
    with pytest.raises(EffkerasError, match=r"1 of 24 pictures cannot be read.*gone\.jpg"):
        PictureStore(dataclasses.replace(data, records=(gone, *data.records[1:])), SPEC)


def test_without_memory_pictures_are_read_on_demand(many, monkeypatch, capsys):
    data, first = many
    whole = PictureStore(data, SPEC)
    monkeypatch.setattr(store_module, "_MEMORY", 0)
    lazy = PictureStore(data, SPEC)
    np.testing.assert_array_equal(lazy[5].pixels, whole[5].pixels)
    first.write_bytes(b"")
    for _ in range(2):
        np.testing.assert_array_equal(lazy[0].pixels, whole[1].pixels)
    assert capsys.readouterr().err.count("first.jpg") == 1


def test_many_bad_pictures_are_an_error_on_demand_too(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_MEMORY", 0)
    data = open_data(digits, "train")
    gone = dataclasses.replace(data.records[0], path=tmp_path / "gone.jpg")
    lazy = PictureStore(dataclasses.replace(data, records=(gone, *data.records[1:])), SPEC)
    with pytest.raises(EffkerasError, match=r"1 of 24 pictures cannot be read.*gone\.jpg"):
        lazy[0]
