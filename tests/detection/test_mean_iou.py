"""Mean intersection over union is Keras's, and pixels of unknown class count nowhere."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effkeras.detection.segmentation import Confusion


def maps(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, (9, 7)).astype(np.uint8)
    found = np.where(draw.random((9, 7)) < 0.5, truth, draw.integers(0, classes, (9, 7))).astype(np.uint8)
    truth[draw.random((9, 7)) < 0.2] = 255
    return truth, found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 3))
def test_mean_iou_is_keras_mean_iou(seed, classes, images):
    ours = Confusion(classes)
    theirs = keras.metrics.MeanIoU(classes, ignore_class=255)
    for index in range(images):
        truth, found = maps(seed + index, classes)
        ours.add(truth, found)
        theirs.update_state(truth, found)
    assert ours.metrics()["mIoU"] == pytest.approx(float(theirs.result()), abs=1e-5)


def test_by_hand():
    """Class 0: 2 of 4; class 1: 1 of 3; class 2 is nowhere; one pixel is unknown."""
    confusion = Confusion(3)
    confusion.add(np.array([[0, 0, 0, 1], [1, 255, 255, 255]]), np.array([[0, 0, 1, 1], [0, 2, 1, 0]]))
    ious = confusion.ious()
    np.testing.assert_allclose(ious[:2], [2 / 4, 1 / 3])
    assert np.isnan(ious[2])
    assert confusion.metrics() == {"mIoU": pytest.approx((2 / 4 + 1 / 3) / 2), "pixels": 3 / 5}


def test_a_class_found_where_it_is_not_counts_as_zero():
    confusion = Confusion(3)
    confusion.add(np.zeros((1, 4), np.uint8), np.array([[0, 0, 0, 2]]))
    assert confusion.metrics()["mIoU"] == pytest.approx((3 / 4 + 0) / 2)


def test_nothing_known_is_no_success():
    confusion = Confusion(2)
    confusion.add(np.full((2, 2), 255), np.zeros((2, 2), np.int64))
    assert confusion.metrics() == {"mIoU": 0.0, "pixels": 0.0}
