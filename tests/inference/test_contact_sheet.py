"""A contact sheet shows what the labels say: boxes in their classes' colours, masks, names and counts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor
from support.voc_sets import write_voc

from effkeras.data.all_splits import read_all
from effkeras.data.records import ReadOptions
from effkeras.inference.contact_sheet import Sheet, Tile, colour_of, contact_sheet
from effkeras.inference.data_tiles import tiles_of

BLACK = np.zeros((60, 80, 3), np.uint8)


def tile(*boxes: tuple[float, ...], classes=(), ignored=(), masks=()) -> Tile:
    table = np.array(boxes, np.float32).reshape(-1, 4)
    flags = np.array(ignored or [False] * len(table), bool)
    return Tile(BLACK, table, np.array(classes, np.int64), flags, "a.png", "80 x 60", masks)


def has(page: object, colour: str, least: int = 30) -> bool:
    pixels = np.asarray(page).reshape(-1, 3).astype(int)
    return int((np.abs(pixels - ImageColor.getrgb(colour)).max(axis=1) < 12).sum()) >= least


def test_boxes_have_the_colours_of_their_classes():
    page = contact_sheet([tile((10, 10, 50, 60), classes=[1])], Sheet("a title", ("cat", "dog", "cow")))
    assert page.width == 1600
    assert has(page, colour_of(1))
    assert not has(page, colour_of(2))


def test_each_class_has_a_colour_of_its_own():
    assert len({colour_of(label) for label in range(90)}) == 90


def test_a_mask_is_tinted_and_a_crowd_is_grey():
    inside = np.zeros((60, 80), bool)
    inside[:30] = True
    red, green, blue = (round(0.45 * part) for part in ImageColor.getrgb(colour_of(0)))
    page = contact_sheet([tile(masks=[(0, inside)])], Sheet("", ("cat",)))
    assert has(page, f"#{red:02x}{green:02x}{blue:02x}", least=5000)
    page = contact_sheet([tile((5, 5, 50, 70), classes=[0], ignored=[True])], Sheet("", ("cat",)))
    assert not has(page, colour_of(0))


def test_tiles_lie_in_rows_and_nothing_is_needed_for_empty_ones():
    one, five = (contact_sheet([tile()] * count, Sheet("", ())) for count in (1, 5))
    assert five.height > one.height
    assert contact_sheet([], Sheet("nothing", ())).width == 1600


@pytest.mark.parametrize("count", [1, 300])
def test_many_boxes_and_long_names_fit(count):
    chance = np.random.default_rng(0)
    low = chance.uniform(0, 40, (count, 2))
    boxes = np.concatenate([low, low + chance.uniform(0.1, 20, (count, 2))], axis=1)
    labels = [f"{number} {'long ' * 30}" for number in range(70)]
    page = contact_sheet([tile(*boxes, classes=chance.integers(0, 70, count))], Sheet("t", labels))
    assert page.width == 1600


def test_the_tiles_of_a_data_set_say_what_is_wrong(tmp_path):
    boxes = [("cat", 10, 8, 40, 32), ("cat", 9, 9, 9, 9)]
    write_voc(tmp_path, {"train": {"scaled": boxes[:1], "turned": boxes[:1]}}, (32, 24), (64, 48))
    write_voc(tmp_path, {"train": {"turned": boxes[:1]}}, (48, 64), (64, 48))
    write_voc(tmp_path, {"train": {"bad": boxes, "broken": boxes[:1]}})
    (tmp_path / "ImageSets/Main/train.txt").write_text("scaled\nturned\nbad\nbroken\n")
    image = tmp_path / "JPEGImages/broken.jpg"
    image.write_bytes(image.read_bytes()[:600])
    (data,) = read_all(tmp_path, ReadOptions(skip_bad=True))
    scaled, turned, bad, broken = tiles_of(data)
    assert scaled.boxes.tolist() == [[4, 5, 16, 20]]
    assert "scaled from 64 x 48" in scaled.line
    assert "EXIF" in turned.line
    assert bad.line == "64 x 48, 1 boxes, 1 left out"
    assert bad.ignored.tolist() == [False, True]
    assert "damaged" in broken.line
