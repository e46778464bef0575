"""The confusion matrix and the kinds of errors, against the counts of each class and by hand."""

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
from effkeras.detection.confusion import (
    BOTH,
    CLASS,
    DUPLICATE,
    KINDS,
    NOTHING,
    PLACE,
    RIGHT,
    Pairs,
    confusion,
    error_kinds,
    kinds_of,
)
from effkeras.detection.nms import Detections
from effkeras.detection.precision_recall import ScoreCurve

CAT, DOG = 0, 1


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


def record_of(boxes, classes, crowd=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    crowds = np.zeros(len(boxes), bool)
    crowds[list(crowd)] = True
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return DetectionRecord(Path("a.png"), 1, (99, 99), boxes, np.array(classes, np.int64), crowds, areas)


def detections(*rows):
    boxes, scores, classes = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(classes, np.int64))


def test_each_kind_by_hand():
    record = record_of([[0, 0, 10, 10], [20, 20, 30, 30], [60, 60, 90, 90]], [CAT, DOG, DOG], crowd=[2])
    found = detections(
        ([0, 0, 10, 10], 0.9, CAT),
        ([0, 0, 10, 9], 0.8, CAT),  # the cat is taken
        ([20, 20, 30, 30], 0.7, CAT),  # a dog
        ([24, 24, 34, 34], 0.6, DOG),  # IoU 0.22 with the dog
        ([4, 4, 14, 14], 0.5, DOG),  # IoU 0.22 with the cat
        ([40, 40, 50, 50], 0.4, DOG),
        ([60, 60, 70, 70], 0.3, DOG),  # inside a crowd
    )
    assert kinds_of(record, found).tolist() == [RIGHT, DUPLICATE, CLASS, PLACE, BOTH, NOTHING, RIGHT]


def test_an_image_without_objects_and_one_without_detections():
    empty = record_of([], [])
    assert kinds_of(empty, detections(([0, 0, 9, 9], 0.5, CAT))).tolist() == [NOTHING]
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert kinds_of(record_of([[0, 0, 9, 9]], [CAT]), nothing).tolist() == []


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_kinds_are_all_wrong_boxes_and_leaving_them_out_costs_nothing(seed, score):
    data, found = scene(seed)
    kinds = {record.image_id: kinds_of(record, found[record.image_id]) for record in data.records}
    errors = error_kinds(data, found, kinds, score)
    above = {key: one.above(score) for key, one in found.items()}
    counts = sum(confusion(record, above[record.image_id], CLASSES) for record in data.records)
    # Boxes of low scores take an object from none that is surer, so the kinds are those at any threshold.
    assert sum(one.count for one in errors) == counts[:, :-1].sum() - np.trace(counts)
    of_iou = Matches.of(data, found).average_precisions()
    whole = np.mean([one[0] for one in of_iou.values()]) if of_iou else 0.0
    assert all(one.ap50_without >= whole - 1e-12 for one in errors)
    assert {one.name for one in errors} <= set(KINDS.values())


def test_without_all_wrong_boxes_recall_is_what_is_left():
    """Of two dogs one is found, and a surer box where nothing is labelled: without it precision is whole."""
    record = record_of([[20, 20, 30, 30], [60, 60, 90, 90]], [DOG, DOG])
    found = detections(([40, 40, 50, 50], 0.9, DOG), ([20, 20, 30, 30], 0.5, DOG))
    data = dataclasses.replace(scene(0)[0], records=(record,))
    (only,) = error_kinds(data, {1: found}, {1: kinds_of(record, found)}, 0.6)
    assert (only.name, only.count) == (KINDS[NOTHING], 1)
    assert only.ap50_without == pytest.approx(51 / 101)
