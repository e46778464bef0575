"""Targets equal those of a slow matcher that follows the rules word by word."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import effkeras
from effkeras.detection import boxes as box_tools
from effkeras.detection import matching
from effkeras.detection.boxes import anchor_boxes, level_sizes
from effkeras.detection.matching import Matcher, Truth

ANCHORS = np.array(
    [[y, x, y + s, x + s] for s in (8, 16) for y in (0, 8, 16) for x in (0, 8, 16)], np.float32
)


GRIDS = ((3, 3), (3, 3))
ANY_BOXES = Truth(
    tf.TensorSpec((1, None, 4)), tf.TensorSpec((1, None), tf.int32), tf.TensorSpec((1, None), tf.bool)
)
ON_GRIDS = tf.function(Matcher.of(ANCHORS, GRIDS).__call__, (ANY_BOXES,), autograph=False)


def match(boxes, classes, crowd=None, anchors=ANCHORS) -> tuple[np.ndarray, np.ndarray]:
    crowd = np.zeros(len(classes), bool) if crowd is None else np.array(crowd, bool)
    truth = Truth(
        tf.constant(np.array(boxes, np.float32).reshape(1, -1, 4)),
        tf.constant(np.array([classes], np.int32)),
        tf.constant(crowd[None]),
    )
    targets = ON_GRIDS(truth) if anchors is ANCHORS else Matcher.of(anchors)(truth)
    return targets["class_logits"].numpy()[0], targets["box_deltas"].numpy()[0]


def overlap(a, b) -> float:
    height = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    return height * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def area(box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def slow_match(boxes, classes, crowd, anchors) -> tuple[np.ndarray, np.ndarray]:
    """Which box each anchor learns, -1 for none and -2 for ignored; ties go to the first."""
    real = [j for j, label in enumerate(classes) if label >= 0 and not crowd[j]]
    iou = np.zeros((len(anchors), len(boxes)))
    for i, anchor in enumerate(anchors):
        for j in real:
            shared = overlap(anchor, boxes[j])
            iou[i, j] = shared / (area(anchor) + area(boxes[j]) - shared)
    owner = np.full(len(anchors), -1)
    for i, anchor in enumerate(anchors):
        best = max(real, key=lambda j, i=i: iou[i, j], default=None)
        if best is not None and iou[i, best] >= 0.5:
            owner[i] = best
        elif any(crowd[j] and overlap(anchor, boxes[j]) >= 0.5 * area(anchor) for j in range(len(boxes))):
            owner[i] = -2
    for j in reversed(real):
        best = int(np.argmax(iou[:, j]))
        if iou[best, j] > 0:
            owner[best] = j
    return owner, iou


@st.composite
def truths(draw):
    # Sides in eighths are exact in float32, so both matchers see the same ties.
    whole = st.integers(0, 200)
    side = st.integers(8, 150)
    corners = draw(st.lists(st.tuples(whole, whole, side, side), min_size=1, max_size=6))
    boxes = np.array([[y, x, y + h, x + w] for y, x, h, w in corners], np.float32) / 8
    count = len(corners)
    classes = draw(st.lists(st.integers(-1, 4), min_size=count, max_size=count))
    crowd = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return boxes, np.array(classes), np.array(crowd) & (np.array(classes) >= 0)


@settings(max_examples=60, deadline=None)
@given(truths())
def test_matches_are_those_of_the_slow_matcher(truth):
    boxes, classes, crowd = truth
    owner, _ = slow_match(boxes, classes, crowd, ANCHORS)
    labels, deltas = match(boxes, classes, crowd)
    wanted = np.where(owner >= 0, classes[np.maximum(owner, 0)], owner)
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal(deltas[:, 4], owner >= 0)
    np.testing.assert_array_equal(deltas[owner < 0], 0)
    positive = owner >= 0
    coded = box_tools.encode(boxes[owner[positive]], ANCHORS[positive])
    np.testing.assert_allclose(deltas[positive, :4], coded, atol=1e-5)


def test_half_an_overlap_is_a_match():
    labels, _ = match([[0, 0, 8, 4], [0, 0, 16, 16]], [1, 2])
    assert labels[0] == 1  # exactly 0.5
    labels, _ = match([[0, 0, 8, 3.9], [0, 8, 8, 16]], [1, 2], anchors=ANCHORS[:2])
    assert list(labels) == [1, 2]  # forced: below 0.5, yet the box's best


def test_each_box_gets_its_best_anchor():
    labels, deltas = match([[2, 2, 4, 4]], [3])
    assert np.flatnonzero(labels >= 0).tolist() == [0]
    np.testing.assert_allclose(deltas[0], [-1 / 8, -1 / 8, np.log(1 / 4), np.log(1 / 4), 1], atol=1e-6)


def test_a_forced_match_beats_a_better_one():
    anchors = np.array([[0, 0, 10, 10]], np.float32)
    labels, _ = match([[0, 0, 10, 9], [0, 0, 10, 10]], [1, 2], anchors=anchors)
    assert list(labels) == [1]  # both boxes want the only anchor: the first has it


def test_a_box_beside_all_anchors_matches_nothing():
    labels, deltas = match([[500, 500, 520, 520]], [1])
    assert (labels == -1).all()
    assert (deltas == 0).all()


@pytest.mark.parametrize("count", [1, 3])
def test_padding_matches_nothing(count):
    labels, deltas = match(np.zeros((count, 4)), [-1] * count)
    assert (labels == -1).all()
    assert (deltas == 0).all()
    assert np.isfinite(deltas).all()


def test_padding_changes_nothing():
    boxes = [[0, 0, 8, 8], [8, 8, 24, 24]]
    plain = match(boxes, [1, 2])
    padded = match([*boxes, [0, 0, 0, 0], [0, 0, 0, 0]], [1, 2, -1, -1])
    np.testing.assert_array_equal(plain[0], padded[0])
    np.testing.assert_array_equal(plain[1], padded[1])


def test_anchors_in_a_crowd_are_ignored():
    labels, deltas = match([[0, 0, 8, 12]], [1], crowd=[True])
    assert labels[0] == -2  # wholly inside
    assert labels[1] == -2  # half inside
    assert labels[2] == -1  # outside
    assert labels[9] == -1  # 16 px: three eighths inside
    assert (deltas == 0).all()


def test_a_match_beats_a_crowd():
    labels, _ = match([[0, 0, 32, 32], [0, 0, 8, 8]], [1, 2], crowd=[True, False])
    assert labels[0] == 2
    assert (np.delete(labels, 0) == -2).any()


def test_targets_have_the_types_of_the_losses():
    labels, deltas = match([[0, 0, 8, 8]], [0])
    assert labels.dtype == np.int32
    assert deltas.dtype == np.float32
    assert deltas.shape == (len(ANCHORS), 5)


def test_matching_runs_inside_a_data_set():
    boxes = tf.constant([[[0, 0, 8, 8], [0, 0, 0, 0]], [[8, 8, 16, 16], [0, 0, 16, 16]]], tf.float32)
    classes = tf.constant([[1, -1], [0, 2]])
    matcher = Matcher.of(ANCHORS, GRIDS)
    data = tf.data.Dataset.from_tensor_slices(Truth(boxes, classes, tf.zeros((2, 2), tf.bool))).batch(2)
    (targets,) = data.map(tf.autograph.experimental.do_not_convert(lambda truth: matcher(truth)))
    for index, labels in enumerate(targets["class_logits"]):
        wanted, _ = match(boxes[index].numpy(), classes[index].numpy())
        np.testing.assert_array_equal(labels, wanted)


def test_a_grid_spares_only_comparisons_that_decide_nothing():
    """The anchors of a model, at an odd size, with boxes of all sizes, some of them between two anchors."""
    spec = effkeras.spec("efficientdet-lite0")
    spec = spec.replace(input=dataclasses.replace(spec.input, size=(104, 136)))
    random, anchors = np.random.default_rng(0), anchor_boxes(spec)
    sides = np.exp(random.uniform(0, 5, (3, 12, 2)))
    low = random.uniform(-10, 100, (3, 12, 2))
    boxes = np.concatenate([low, low + sides], axis=2)
    boxes[1] = np.rint(boxes[1] / 8) * 8
    truth = Truth(
        tf.constant(boxes, tf.float32),
        tf.constant(random.integers(-1, 3, (3, 12)), tf.int32),
        tf.constant(random.uniform(size=(3, 12)) < 0.2),
    )
    ours, all_pairs = Matcher.of(anchors, level_sizes(spec))(truth), Matcher.of(anchors)(truth)
    assert (ours["class_logits"].numpy() >= 0).sum() > 20
    for name, targets in all_pairs.items():
        np.testing.assert_array_equal(ours[name], targets)


def test_anchors_beside_a_grid_are_refused():
    with pytest.raises(ValueError, match="no grid"):
        Matcher.of(ANCHORS[::-1], ((9, 2),))


def test_crowds_in_chunks_match_as_all_at_once(monkeypatch):
    boxes = [[[0, 0, 8, 12], [8, 8, 16, 16], [0, 16, 24, 24], [16, 0, 24, 8], [2, 2, 14, 14]]]
    crowd = [[True, True, True, True, False]]
    truth = Truth(tf.constant(boxes, tf.float32), tf.ones((1, 5), tf.int32), tf.constant(crowd))
    matcher = Matcher.of(ANCHORS, GRIDS)
    whole = matcher(truth)
    monkeypatch.setattr(matching, "_PAIRS", 2 * len(ANCHORS))  # two crowds at a time
    for name, targets in matcher(truth).items():
        np.testing.assert_array_equal(targets, whole[name])
    assert (whole["class_logits"].numpy() == -2).sum() > 3


def test_an_image_without_any_box_matches_nothing():
    labels, deltas = match(np.zeros((0, 4)), [])
    assert (labels == -1).all()
    assert (deltas == 0).all()
