"""What all readers do with annotations: clip, name, leave out, and mark what is unknown."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from effkeras.data.masks import MaskClasses, label_map
from effkeras.data.records import Category, DetectionData, ReadOptions
from effkeras.data.split_builder import Annotation, SplitBuilder, clipped_corners, unknown_region
from effkeras.detection.coco_metrics import coco_metrics
from effkeras.detection.nms import Detections
from effkeras.support.errors import EffkerasError

SIZE = (30, 40)
GOOD = Annotation("object 1", "cat", (2.0, 3.0, 12.0, 20.0))
BAD = Annotation("object 2", "cat", (20.0, 25.0, 20.0, 35.0))


def built(*annotations: Annotation, skip_bad: bool = True, size=SIZE, path="a.png") -> DetectionData:
    builder = SplitBuilder("root", "train", ReadOptions(skip_bad=skip_bad))
    builder.add(path, size, annotations, where="a.txt")
    return builder.build()


def test_what_may_lie_in_a_bad_annotation_is_unknown():
    (record,) = built(GOOD, BAD).records
    assert len(record.boxes) == 1
    np.testing.assert_array_equal(record.unknown, [[0, 25, 30, 35]])  # no height: anywhere in these columns


def test_the_metric_ignores_detections_in_unknown_regions():
    data = built(GOOD, BAD)
    found = Detections(np.array([[5.0, 26, 25, 34], [2, 3, 12, 20]]), np.array([0.9, 0.8]), np.array([0, 0]))
    assert coco_metrics(data, {1: found})["AP"] == pytest.approx(1.0)


def test_masks_are_unknown_there():
    (record,) = built(GOOD, BAD).records
    labels = label_map(record, MaskClasses(2, (1,)), SIZE)
    assert set(labels[:, 25:35].ravel()) == {255}
    assert labels[0, 0] == 0


def test_no_class_matters_to_the_loss():
    (record,) = built(GOOD, BAD).records
    crowded = record.with_unknown_as_crowds(classes=1)
    assert crowded.crowd.tolist() == [False, True]
    assert crowded.areas[1] == 300


@given(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 4))
def test_unknown_regions_lie_in_the_image_and_have_an_area(corners):
    top, left, bottom, right = unknown_region(corners, SIZE)
    assert 0 <= top < bottom <= SIZE[0]
    assert 0 <= left < right <= SIZE[1]


@given(st.tuples(*[st.floats(-100, 100)] * 4))
def test_boxes_are_clipped_or_refused(corners):
    try:
        (top, left, bottom, right), _ = clipped_corners(corners, SIZE)
    except EffkerasError:
        return
    assert 0 <= top < bottom <= SIZE[0]
    assert 0 <= left < right <= SIZE[1]
    assert (top, left) >= (max(corners[0], 0), max(corners[1], 0))


def test_beyond_one_pixel_it_is_counted():
    assert built(GOOD._replace(corners=(2.0, 3.0, 12.0, 40.9))).clipped == ()
    assert built(GOOD._replace(corners=(2.0, 3.0, 12.0, 41.1))).clipped == ("a.txt: object 1",)


def test_numbers_that_are_not_finite_are_bad():
    with pytest.raises(EffkerasError, match=r"a\.txt: object 1: .*not a finite number"):
        built(GOOD._replace(corners=(2.0, math.nan, 12.0, 20.0)), skip_bad=False)


def test_classes_are_those_of_a_list_or_of_the_annotations():
    data = built(GOOD._replace(label="10"), GOOD._replace(label="9 "))
    assert data.categories == (Category(1, "9"), Category(2, "10"))
    builder = SplitBuilder("root", "train", ReadOptions(), [Category(7, "dog")])
    with pytest.raises(EffkerasError, match="its class 'cat' is not in the data set's list of classes"):
        builder.add("a.png", SIZE, [GOOD], where="a.txt")


def test_a_size_that_no_label_states_is_that_of_the_file(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    assert built(GOOD, size=None, path=tmp_path / "a.png").records[0].size == SIZE


def test_too_many_lost_images_are_refused_unless_bad_items_are_skipped():
    for skip_bad in (True, False):
        builder = SplitBuilder("root", "train", ReadOptions(skip_bad=skip_bad))
        builder.add("a.png", SIZE, [GOOD], where="a.txt")
        builder.lose_image("b.txt", "no image")
        if skip_bad:
            assert len(builder.build().skipped) == 1
        else:
            with pytest.raises(EffkerasError, match=r"1 of 2 images .*first: b\.txt: no image"):
                builder.build()


def test_nothing_usable_is_refused():
    with pytest.raises(EffkerasError, match="none of the 1 annotations of the split 'train' is usable"):
        built(BAD)
    with pytest.raises(EffkerasError, match="has no usable image"):
        SplitBuilder("root", "train", ReadOptions()).build()
