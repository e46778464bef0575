"""Suppression equals TensorFlow's own, and the decoder's way there is right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import effkeras
from effkeras.definitions.changes import with_classes, with_size
from effkeras.definitions.definition import NmsSpec
from effkeras.detection import nms as nms_module
from effkeras.detection.boxes import anchor_boxes, iou
from effkeras.detection.nms import Decoder, Detections, detect, suppress

ANCHORS = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [40, 40, 60, 60], [-5, -5, 5, 70]], np.float32)


def random_boxes(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    corners = draw.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(1, 40, (count, 2))], axis=1)
    return boxes.astype(np.float32), draw.uniform(0, 1, count).astype(np.float32)


def official_soft(boxes: np.ndarray, scores: np.ndarray, nms: NmsSpec) -> tuple[np.ndarray, np.ndarray]:
    found = tf.raw_ops.NonMaxSuppressionV5(
        boxes=boxes,
        scores=scores,
        max_output_size=nms.max_detections,
        iou_threshold=1.0,
        score_threshold=nms.score_threshold,
        soft_nms_sigma=nms.sigma / 2,
        pad_to_max_output_size=False,
    )
    return found.selected_indices.numpy(), found.selected_scores.numpy()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.sampled_from([0.3, 0.5, 1.0]),
    st.sampled_from([0.001, 0.2]),
    st.sampled_from([5, 100]),
)
def test_soft_suppression_is_tensorflows(seed, count, sigma, threshold, most):
    boxes, scores = random_boxes(seed, count)
    nms = NmsSpec(sigma=sigma, score_threshold=threshold, max_detections=most)
    chosen, kept = suppress(boxes, scores, nms)
    wanted, wanted_scores = official_soft(boxes, scores, nms)
    np.testing.assert_array_equal(chosen, wanted)
    np.testing.assert_allclose(kept, wanted_scores, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([0.3, 0.5, 0.7]), st.sampled_from([5, 100])
)
def test_hard_suppression_is_tensorflows(seed, count, iou, most):
    boxes, scores = random_boxes(seed, count)
    chosen, kept = suppress(boxes, scores, NmsSpec(method="hard", iou_threshold=iou, max_detections=most))
    wanted = tf.image.non_max_suppression(boxes, scores, most, iou).numpy()
    np.testing.assert_array_equal(chosen, wanted)
    np.testing.assert_array_equal(kept, scores[wanted])


def suppress_all(boxes: np.ndarray, scores: np.ndarray, nms: NmsSpec) -> tuple[np.ndarray, np.ndarray]:
    """The full form of `suppress`: in every round all boxes take part."""
    threshold = nms.score_threshold if nms.method == "gaussian" else -np.inf
    alive = np.flatnonzero(scores > threshold)
    boxes, scores = boxes[alive], scores[alive]
    chosen, kept = [], []
    while len(chosen) < nms.max_detections and len(scores):
        best = int(scores.argmax())
        chosen.append(alive[best])
        kept.append(scores[best])
        overlaps = iou(boxes[best], boxes)
        if nms.method == "gaussian":
            scores = scores * np.exp(overlaps * overlaps * np.float32(-1 / nms.sigma))
        else:
            scores = np.where(overlaps > nms.iou_threshold, np.float32(-np.inf), scores)
        scores[best] = -np.inf
        left = scores > threshold
        alive, boxes, scores = alive[left], boxes[left], scores[left]
    return np.array(chosen, np.int64), np.array(kept, np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 80),
    pool=st.integers(1, 20),
    method=st.sampled_from(["gaussian", "hard"]),
    steps=st.sampled_from([5, 1000]),  # few different scores tie often
    extreme=st.sampled_from([None, np.inf, np.nan, 1e30]),
)
def test_the_best_boxes_alone_give_the_same_bits(seed, count, pool, method, steps, extreme):
    boxes, scores = random_boxes(seed, count)
    scores = np.round(scores * steps) / np.float32(steps)
    if extreme is not None and count:
        boxes[seed % count, seed % 4] = extreme
        scores[-1] = np.nan
    nms = NmsSpec(method=method, score_threshold=0.05, max_detections=30)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(nms_module, "POOL", pool)
        chosen, kept = suppress(boxes, scores, nms)
        wanted, wanted_scores = suppress_all(boxes, scores, nms)
    np.testing.assert_array_equal(chosen, wanted)
    np.testing.assert_array_equal(kept, wanted_scores)


def test_no_factor_of_soft_suppression_raises_a_score():
    """The bound in `suppress` rests on it: numpy's exp of no negative number is above 1."""
    bits = np.arange(0, 0x3F800000, 1009, dtype=np.uint32)  # from 0 to 1, of all magnitudes
    assert (np.exp(-bits.view(np.float32)) <= 1).all()


@pytest.mark.parametrize("method", ["gaussian", "hard"])
def test_of_equal_scores_the_first_wins(method):
    boxes = np.array([[0, 0, 4, 4], [10, 10, 14, 14], [20, 20, 24, 24]], np.float32)
    chosen, _ = suppress(boxes, np.full(3, 0.5, np.float32), NmsSpec(method=method))
    assert chosen.tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", ["gaussian", "hard"])
def test_nothing_in_nothing_out(method):
    nms = NmsSpec(method=method)
    found = detect(np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32), ANCHORS[:0], nms)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def logits(*best: tuple[int, float]) -> np.ndarray:
    rows = np.full((len(best), 3), -9, np.float32)
    for row, (label, value) in zip(rows, best, strict=True):
        row[label] = value
    return rows


def test_an_anchor_stands_for_its_best_class():
    found = Decoder(ANCHORS, (64, 64), NmsSpec(method="hard"))(
        logits((1, 2.0), (2, 1.0), (0, 3.0), (1, -4.0)), np.zeros((4, 4), np.float32)
    )
    # Anchor 1 overlaps anchor 0 by 0.82 and goes although its class is another.
    assert found.classes.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp([-3, -2, 4])), rtol=1e-5)


def test_boxes_are_clipped_to_the_image():
    outputs = logits((0, 1.0), (0, -9.0), (0, -9.0), (0, 2.0)), np.zeros((4, 4), np.float32)
    decoder = Decoder(ANCHORS, (50, 64), NmsSpec(method="hard"))
    found = decoder(*outputs)
    assert found.boxes[0].tolist() == [0, 0, 5, 64]
    assert found.boxes.dtype == np.float32
    assert detect(*outputs, ANCHORS, decoder.nms).boxes[0].tolist() == [-5, -5, 5, 70]
    assert [50, 60] in found.boxes[:, 2:].tolist()


def test_only_the_strongest_anchors_are_looked_at(monkeypatch):
    draw = np.random.default_rng(0)
    count = 6000
    assert count > nms_module.MAX_CANDIDATES == 5000
    corners = draw.uniform(0, 5000, (count, 2))
    anchors = np.concatenate([corners, corners + 3], axis=1).astype(np.float32)
    outputs = draw.normal(0, 3, (count, 2)).astype(np.float32), draw.normal(0, 0.1, (count, 4))
    nms = NmsSpec(max_detections=50)
    found = detect(*outputs, anchors, nms)
    monkeypatch.setattr(nms_module, "MAX_CANDIDATES", count)
    every = detect(*outputs, anchors, nms)
    np.testing.assert_array_equal(found.scores, every.scores)
    np.testing.assert_array_equal(found.boxes, every.boxes)
    monkeypatch.setattr(nms_module, "MAX_CANDIDATES", 20)
    np.testing.assert_array_equal(detect(*outputs, anchors, nms).scores, every.scores[:20])


@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_extreme_logits_are_plain_scores(value):
    outputs = np.full((4, 3), value, np.float32), np.zeros((4, 4), np.float32)
    nms = NmsSpec(method="hard", score_threshold=0)
    assert set(detect(*outputs, ANCHORS, nms).scores) == {0.0 if value < 0 else 1.0}


def test_detections_above_a_score():
    found = Detections(ANCHORS[:3], np.array([0.9, 0.5, 0.1], np.float32), np.array([4, 5, 6]))
    assert found.above(0.5).classes.tolist() == [4, 5]
    assert len(found.above(0.95)) == 0


def test_a_decoder_is_made_from_a_definition():
    spec = with_classes(with_size(effkeras.spec("d0"), (64, 96)), 2)
    nms = dataclasses.replace(spec.nms, max_detections=7)
    decoder = Decoder.of(spec.replace(nms=nms))
    assert decoder.size == (64, 96)
    assert decoder.nms.max_detections == 7
    np.testing.assert_array_equal(decoder.anchors, anchor_boxes(spec))
    outputs = np.zeros((len(decoder.anchors), 2), np.float32), np.zeros((len(decoder.anchors), 4))
    assert len(decoder(*outputs)) == 7


def test_second_guesses_are_kept_on_request():
    """One anchor that is torn between two classes gives both, the second lowered by its own overlap of 1."""
    logits = np.array([[2.0, 1.5, -9.0], [-9.0, -9.0, -9.0]], np.float32)
    anchors = np.array([[0, 0, 8, 8], [20, 20, 28, 28]], np.float32)
    deltas = np.zeros((2, 4), np.float32)
    one = detect(logits, deltas, anchors, NmsSpec(score_threshold=0.05))
    two = detect(logits, deltas, anchors, NmsSpec(score_threshold=0.05, max_inputs=4))
    assert one.classes.tolist() == [0]
    assert two.classes.tolist() == [0, 1]
    np.testing.assert_allclose(two.scores[1], 1 / (1 + np.exp(-1.5)) * np.exp(-1 / 0.5), rtol=1e-5)
