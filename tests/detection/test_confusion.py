"""The confusion matrix, against the counts of each class and by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scenes import CLASSES, scene

from effkeras.data.records import DetectionRecord
from effkeras.detection.average_precision import Matches
from effkeras.detection.confusion import Pairs, confusion
from effkeras.detection.nms import Detections
from effkeras.detection.precision_recall import ScoreCurve


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_rows_and_columns_add_up_to_the_counts_of_each_class(seed, threshold):
    data, found = scene(seed)
    found = {key: one.above(threshold) for key, one in found.items()}
    total = sum(confusion(record, found[record.image_id], CLASSES) for record in data.records)
    for label, one in Matches.of(data, found).classes.items():
        counted = ScoreCurve.of([one]).at(threshold)
        assert total[label, label] == counted.right
        assert total[:, label].sum() == counted.found
        assert total[label].sum() == counted.truths


def test_what_happens_to_each_box_by_hand():
    """A cat found, a dog taken for a cat, a dog missed, and a cat where there is nothing."""
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]], np.float32)
    cat, dog = 0, 1
    record = DetectionRecord(
        Path("a.png"), 1, (60, 60), boxes, np.array([cat, dog, dog]), np.zeros(3, bool), np.full(3, 100.0)
    )
    places = np.array([[0, 0, 10, 9], [21, 20, 30, 30], [0, 50, 9, 59]], np.float32)
    found = Detections(places, np.array([0.9, 0.8, 0.7], np.float32), np.array([cat, cat, cat]))
    assert confusion(record, found, 2).tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 0]]
    pairs = Pairs.of(record, found)
    assert pairs.truth_of.tolist() == [0, 1, -1]
    assert pairs.is_missed.tolist() == [False, True, True]
    crowd = dataclasses.replace(record, crowd=np.array([True, True, True]))
    assert confusion(crowd, found, 2).tolist() == [[0, 0, 0], [0, 0, 0], [2, 0, 0]]


@pytest.mark.parametrize("empty", ["found", "truth", "both"])
def test_nothing_found_or_nothing_there(empty):
    none = np.zeros((0, 4), np.float32)
    box = np.array([[0, 0, 10, 10]], np.float32)
    truth, places = (none if empty in (name, "both") else box for name in ("truth", "found"))
    classes = np.zeros(len(truth), np.int64)
    record = DetectionRecord(
        Path("a.png"), 1, (60, 60), truth, classes, np.zeros(len(truth), bool), np.ones(len(truth))
    )
    count = len(places)
    found = Detections(places, np.full(count, 0.5, np.float32), np.zeros(count, np.int64))
    assert confusion(record, found, 1).tolist() == [[0, len(truth)], [len(places), 0]]
