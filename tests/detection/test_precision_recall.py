"""Precision, recall, F1 and the best threshold, against counting in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scenes import scene

from effkeras.detection.average_precision import ClassMatches, Matches
from effkeras.detection.precision_recall import Counted, ScoreCurve


def iou(one: list[float], other: list[float]) -> float:
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    both = max(height, 0) * max(width, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


def share_inside(one: list[float], crowd: list[float]) -> float:
    height = min(one[2], crowd[2]) - max(one[0], crowd[0])
    width = min(one[3], crowd[3]) - max(one[1], crowd[1])
    return max(height, 0) * max(width, 0) / ((one[2] - one[0]) * (one[3] - one[1]))


def count(data, found, threshold: float, labels: set[int]) -> tuple[int, int, int]:
    """Right, counted and true boxes: detections of these classes that reach the threshold, one by one."""
    right = counted = truths = 0
    for record in data.records:
        one = found[record.image_id]
        for label in labels:
            mine = [
                (float(score), [float(value) for value in box])
                for box, score, kind in zip(one.boxes, one.scores, one.classes, strict=True)
                if kind == label and score >= threshold
            ]
            free, crowds = [], []
            for box, kind, crowd in zip(record.boxes, record.classes, record.crowd, strict=True):
                if kind == label:
                    (crowds if crowd else free).append([float(value) for value in box])
            truths += len(free)
            for _, box in sorted(mine, key=lambda pair: -pair[0]):
                best = max(free, key=lambda truth: iou(box, truth), default=None)
                if best is not None and iou(box, best) >= 0.5:
                    free.remove(best)
                    right, counted = right + 1, counted + 1
                elif not any(share_inside(box, crowd) >= 0.5 for crowd in crowds):
                    counted += 1
    return right, counted, truths


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_counts_are_those_of_a_loop_over_all_boxes(seed, threshold):
    data, found = scene(seed)
    matches = Matches.of(data, found)
    curve = ScoreCurve.of(matches.classes.values())
    at = curve.at(threshold)
    assert (at.right, at.found, at.truths) == count(data, found, threshold, {0, 1, 2})
    for label, one in matches.classes.items():
        at = ScoreCurve.of([one]).at(threshold)
        assert (at.right, at.found, at.truths) == count(data, found, threshold, {label})


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_no_score_is_a_better_threshold(seed):
    data, found = scene(seed)
    curve = ScoreCurve.of(Matches.of(data, found).classes.values())
    best = curve.best()
    scores = [float(score) for one in found.values() for score in one.scores]
    f1s = {}
    for score in scores:
        right, counted, truths = count(data, found, score, {0, 1, 2})
        f1s[score] = 2 * right / (counted + truths) if counted + truths else 0.0
    if best is None:
        assert max(f1s.values(), default=0) == 0
    else:
        assert curve.at(best).f1 == pytest.approx(max(f1s.values()))
        assert curve.f1.max() == pytest.approx(max(f1s.values()))


def matches_of(scores: list[float], right: list[bool], truths: int) -> ClassMatches:
    """One class in one image."""
    rows = np.tile(np.array(right, bool), (10, 1))
    images = np.zeros(len(scores), np.int64)
    return ClassMatches(np.array(scores, np.float32), images, rows, np.ones_like(rows), np.array([truths]))


@pytest.mark.parametrize(
    ("scores", "right", "truths", "best"),
    [
        ([0.9, 0.5, 0.1], [True, True, False], 2, 0.3),  # in the middle between the second and the third
        ([0.9, 0.5, 0.5, 0.5], [True, True, False, False], 2, 0.7),  # equal scores come all or not at all
        ([0.6], [True], 1, 0.3),
        ([0.50001, 0.50002][::-1], [True, False], 1, pytest.approx(0.50002)),  # too near for four decimals
        ([0.9], [False], 1, None),
        ([], [], 3, None),
    ],
)
def test_the_best_threshold_by_hand(scores, right, truths, best):
    curve = ScoreCurve.of([matches_of(scores, right, truths)])
    assert curve.best() == best
    if best is not None:
        assert curve.at(curve.best()).found == sum(score >= curve.best() for score in np.float32(scores))


def test_figures_by_hand():
    assert Counted(3, 4, 6).metrics() == pytest.approx({"precision": 0.75, "recall": 0.5, "F1": 0.6})
    assert Counted(0, 0, 0).metrics() == {"precision": 0, "recall": 0, "F1": 0}
