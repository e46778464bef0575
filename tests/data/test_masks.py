"""Label maps: COCO's masks as its own tools draw them, PNG files as people have them, and bad ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask
from support.tiny import digits_folder, tiny_detector

from effkeras.data import preprocess
from effkeras.data.formats.coco import read_coco
from effkeras.data.masks import (
    MaskClasses,
    label_map,
    read_label_map,
    to_input,
)
from effkeras.data.records import Category, DetectionData, DetectionRecord, Mask, RunLengths
from effkeras.data.segmentations import encode_rle, parse_segmentation, pixels_of
from effkeras.data.splits import open_data
from effkeras.definitions.changes import with_heads
from effkeras.definitions.definition import InputSpec, SegmentSpec
from effkeras.support.errors import EffkerasError

# pycocotools' arrays predate numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (20, 30)
CLASSES = MaskClasses(4, (1, 2, 3))
SQUARE = [[2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]]


def record(
    boxes: list, classes: list, masks: tuple[Mask | None, ...] | Path, crowd: list | None = None
) -> DetectionRecord:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return DetectionRecord(
        path=Path("a.jpg"),
        image_id=1,
        size=SIZE,
        boxes=corners,
        classes=np.array(classes, np.int64),
        crowd=np.array(crowd or [False] * len(boxes), bool),
        areas=np.prod(corners[:, 2:] - corners[:, :2], axis=-1),
        masks=masks,
    )


def filled(top: int, left: int, bottom: int, right: int) -> Mask:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return RunLengths(np.array(encode_rle(mask)["counts"]))


@settings(max_examples=40, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_run_lengths_are_read_as_coco_writes_them(mask):
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    compressed = {"size": list(mask.shape), "counts": packed["counts"].decode()}
    for written in (compressed, encode_rle(mask)):
        parsed = parse_segmentation(written, mask.shape)
        np.testing.assert_array_equal(pixels_of(parsed, mask.shape), mask)


@settings(max_examples=40, deadline=None)
@given(st.lists(arrays(np.float32, (5, 2), elements=st.floats(0, 20, width=32)), min_size=1, max_size=3))
def test_polygons_are_drawn_as_coco_draws_them(polygons):
    written = [one.ravel().tolist() for one in polygons]
    theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(written, 20, 20)))
    np.testing.assert_array_equal(pixels_of(parse_segmentation(written, (20, 20)), (20, 20)), theirs)


def test_polygons_beyond_the_image_are_cut_there():
    drawn = pixels_of(parse_segmentation([[-1e9, -1e9, 1e9, -1e9, 1e9, 5, -1e9, 5]], SIZE), SIZE)
    assert drawn[:5].all()
    assert not drawn[5:].any()


@pytest.mark.parametrize("empty", [None, []])
def test_no_segmentation_is_no_mask(empty):
    assert parse_segmentation(empty, SIZE) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "not polygons or run lengths"),
        ([1, 2, 3, 4, 5, 6], "polygon 1 is not x, y of three or more points"),
        ([[1, 2, 3, 4]], "three or more points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three or more points"),
        ([[1, 2, 3, 4, 5, float("nan")]], "three or more points"),
        ([[1, 2, 3, 4, 5, "6"]], "three or more points"),
        ({"size": [20, 31], "counts": [620]}, r"of size \[20, 31\], and the image is \[20, 30\]"),
        ({"counts": [600]}, "of size None"),
        ({"size": 600, "counts": [600]}, "of size 600"),
        ({"size": [20, 30], "counts": [5, 10]}, "do not add up"),
        ({"size": [20, 30], "counts": [605, -5]}, "do not add up"),
        ({"size": [20, 30], "counts": "~~~~~~~"}, "do not add up"),
        ({"size": [20, 30]}, "do not add up"),
    ],
)
def test_what_is_no_segmentation_is_refused(value, message):
    with pytest.raises(EffkerasError, match=message):
        parse_segmentation(value, SIZE)


def test_smaller_masks_lie_on_top_and_the_rest_is_background():
    small, large = [4, 4, 8, 8], [2, 2, 16, 20]
    for order in ((0, 1), (1, 0)):
        boxes, masks = [small, large], (filled(*small), filled(*large))
        found = label_map(
            record([boxes[i] for i in order], [(2, 0)[i] for i in order], tuple(masks[i] for i in order)),
            CLASSES,
            SIZE,
        )
        assert (found[4:8, 4:8] == 3).all()
        assert (found == 1).sum() == 14 * 18 - 16
        assert (found == 0).sum() == 20 * 30 - 14 * 18


def test_crowds_and_boxes_without_mask_are_unknown_but_hide_nothing():
    crowd, bare, plain = [0, 0, 10, 10], [12.5, 0.5, 19, 9], [8, 8, 14, 14]
    shown = record([plain, crowd, bare], [0, 1, 2], (filled(*plain), filled(*crowd), None), [0, 1, 0])
    found = label_map(shown, CLASSES, SIZE)
    assert (found[8:14, 8:14] == 1).all()
    assert (found[:8, :8] == 255).all()
    assert (found[14:19, 0:8] == 255).all()
    assert (found[:, 15:] == 0).all()


def test_digits_masks_lie_in_their_boxes(tmp_path):
    folder = digits_folder(tmp_path / "d", size=64, masks="rle", train=6, val=1, test=1)
    data = open_data(folder, "train", masks=True)
    classes = MaskClasses.of(with_heads(tiny_detector(), ["segment"]), data)
    for one in data.records:
        labels = label_map(one, classes, (64, 64))
        assert (labels > 0).sum() == one.areas.sum()
        for (top, left, bottom, right), label in zip(one.boxes.astype(int), one.classes, strict=True):
            inside = labels[top:bottom, left:right] == label + 1
            assert inside.any(axis=0).all()
            assert inside.any(axis=1).all()


def png(path: Path, values: np.ndarray, mode: str = "") -> Path:
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([7, 7, 7, 200, 0, 0] * 128)
    image.save(path)
    return path


def test_png_values_are_classes_and_palettes_do_not_matter(tmp_path):
    values = np.arange(600, dtype=np.uint8).reshape(SIZE) % 4
    values[0] = 255
    for name, form in (("grey", ""), ("palette", "P")):
        file = png(tmp_path / f"{name}.png", values, form)
        np.testing.assert_array_equal(label_map(record([], [], file), CLASSES, SIZE), values)
    colour = png(tmp_path / "rgb.png", np.repeat(values[..., None], 3, axis=-1))
    np.testing.assert_array_equal(read_label_map(colour), values)
    np.testing.assert_array_equal(read_label_map(png(tmp_path / "1.png", values > 1)), values > 1)
    np.testing.assert_array_equal(read_label_map(png(tmp_path / "16.png", values.astype(np.uint16))), values)


def test_bad_label_maps_are_refused(tmp_path):
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[3, 3] = (200, 0, 0)
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    files = {
        "no such label map": tmp_path / "gone.png",
        "damaged": tmp_path / "cut.png",
        "is a colour image": png(tmp_path / "rgb.png", colours),
        "values from 0 to 300": png(tmp_path / "16.png", np.array([[0, 300]], np.uint16)),
    }
    for message, file in files.items():
        with pytest.raises(EffkerasError, match=f"{file.name}: .*{message}"):
            read_label_map(file)
    with pytest.raises(EffkerasError, match="the value 9, and there are 4 mask classes: 0 to 3, and 255"):
        label_map(record([], [], png(tmp_path / "9.png", np.full(SIZE, 9, np.uint8))), CLASSES, SIZE)
    with pytest.raises(EffkerasError, match=r"a\.jpg: its masks are for 20 x 30 pixels, and it has 30 x 20"):
        label_map(record([], [], ()), CLASSES, (30, 20))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(32, 70), st.sampled_from(["letterbox", "center-crop"])
)
def test_the_input_shows_each_pixels_nearest_class(height, width, side, resize):
    spec = InputSpec((side, side + 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize, 0.9)
    labels = np.random.default_rng(height * 100 + width).integers(0, 9, (height, width)).astype(np.uint8)
    placed = preprocess.place(np.zeros((height, width, 3), np.uint8), spec)
    found = to_input(labels, placed.placement, spec.size)
    rows, columns = placed.content.shape[:2]
    assert (found[rows:] == 255).all()
    assert (found[:, columns:] == 255).all()
    assert (found[:rows, :columns] < 9).all()
    for row, column in ((0, 0), (rows // 2, columns // 3), (rows - 1, columns - 1)):
        place = placed.placement
        y = int((row + 0.5 - place.offset[0]) / place.scale[0])
        x = int((column + 0.5 - place.offset[1]) / place.scale[1])
        assert found[row, column] == labels[y, x]


def coco(root: Path, **annotation: object) -> Path:
    folder = root / "train" / "images"
    folder.mkdir(parents=True)
    Image.new("RGB", SIZE[::-1]).save(folder / "a.jpg")
    one = {"id": 5, "image_id": 1, "category_id": 7, "bbox": [2, 3, 10, 10], "iscrowd": 0, **annotation}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}],
        "annotations": [one],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }
    (root / "train" / "labels.json").write_text(json.dumps(content))
    return root


def test_coco_masks_are_read_when_asked_for(tmp_path):
    root = coco(tmp_path, segmentation=SQUARE)
    (one,) = read_coco(root, "train", masks=True).records
    found = label_map(one, MaskClasses(3, (1, 2)), SIZE)
    assert (found == 2).sum() == 100
    assert (found[3:13, 2:12] == 2).all()
    assert read_coco(root, "train").records[0].masks == ()


def test_bad_coco_masks_name_their_annotation(tmp_path):
    root = coco(tmp_path, segmentation=[[1, 2]])
    with pytest.raises(EffkerasError, match=r"annotation 5: its polygon \[1, 2\] .*--skip-bad"):
        read_coco(root, "train", masks=True)
    assert len(read_coco(root, "train").records) == 1


def test_label_maps_beside_the_images_win(tmp_path):
    root = coco(tmp_path, segmentation=SQUARE)
    (root / "train" / "masks").mkdir()
    with pytest.raises(EffkerasError, match=r"1 of 1 images have no label map, first .*a\.png"):
        read_coco(root, "train", masks=True)
    png(root / "train" / "masks" / "a.png", np.ones(SIZE, np.uint8))
    (one,) = read_coco(root, "train", masks=True).records
    assert one.masks == root / "train" / "masks" / "a.png"
    assert len(one.boxes) == 1
    assert (label_map(one, MaskClasses(3, (1, 2)), SIZE) == 1).all()


def data(masks: tuple[Mask | None, ...] | Path) -> DetectionData:
    shown = record([[2, 2, 9, 9]], [0], masks)
    return DetectionData(Path("root"), "train", (Category(4, "cat"), Category(9, "dog")), (shown,))


def test_values_and_masks_go_by_the_models_classes():
    """The data has the model's classes 3 and 1, which are its values 1 and 2."""
    spec = with_heads(tiny_detector(), ["segment"]).replace(classes=3, labels=(), category_ids=())
    shown = dataclasses.replace(data(Path("a.png")), map_classes=(2, 0))
    classes = MaskClasses.of(spec, shown)
    assert (classes.count, classes.of_values) == (4, (0, 3, 1))


def test_label_maps_get_the_mask_classes_of_their_values(tmp_path):
    values = np.arange(600, dtype=np.uint8).reshape(SIZE) % 3
    values[0] = 255
    classes = MaskClasses(4, (1, 2, 3), (0, 3, 1))
    found = label_map(record([], [], png(tmp_path / "a.png", values)), classes, SIZE)
    np.testing.assert_array_equal(found, np.array([0, 3, 1, *[255] * 253], np.uint8)[values])
    with pytest.raises(EffkerasError, match="the value 3, and there are 3 mask classes: 0 to 2"):
        label_map(record([], [], png(tmp_path / "b.png", np.full(SIZE, 3, np.uint8))), classes, SIZE)


def test_segment_labels_name_the_drawn_classes():
    spec = with_heads(tiny_detector(), ["segment"])
    named = spec.replace(segment=SegmentSpec(3, ("paper", "dog", "cat")))
    assert MaskClasses.of(named, data((filled(2, 2, 9, 9),))) == MaskClasses(3, (2, 1))
    other = spec.replace(segment=SegmentSpec(3, ("paper", "cat", "cow")))
    with pytest.raises(EffkerasError, match=r"has the class 'dog', and the \[segment\] labels of tiny are"):
        MaskClasses.of(other, data((filled(2, 2, 9, 9),)))


def test_data_without_masks_is_refused():
    spec = with_heads(tiny_detector(), ["segment"])
    for masks in ((), (None,)):
        with pytest.raises(EffkerasError, match="root: the split 'train' has no masks, which tiny with"):
            MaskClasses.of(spec, data(masks))


def test_drawn_masks_need_room_in_the_models_classes():
    spec = with_heads(tiny_detector(), ["segment"]).replace(segment=SegmentSpec(classes=2))
    with pytest.raises(EffkerasError, match="2 categories and tiny 2 mask classes"):
        MaskClasses.of(spec, data((filled(2, 2, 9, 9),)))
    assert MaskClasses.of(spec, data(Path("a.png"))).count == 2
