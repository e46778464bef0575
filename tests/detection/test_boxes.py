"""Box arithmetic: coding and its inverse, areas, overlaps, clipping."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from effkeras.detection.boxes import areas, clip, decode, encode, iou


def random_boxes(seed: int, count: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    corners = draw.uniform(-20, 60, (count, 2))
    return np.concatenate([corners, corners + draw.uniform(0.5, 50, (count, 2))], axis=1)


seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(seeds)
def test_decoding_undoes_encoding(seed):
    boxes, anchors = random_boxes(seed, 7), random_boxes(seed + 1, 7)
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-8)


@settings(deadline=None)
@given(seeds)
def test_encoding_undoes_decoding(seed):
    deltas, anchors = np.random.default_rng(seed).normal(0, 1, (7, 4)), random_boxes(seed, 7)
    np.testing.assert_allclose(encode(decode(deltas, anchors), anchors), deltas, atol=1e-8)


def test_coding_by_hand():
    anchor, box = np.array([[10.0, 20, 20, 40]]), np.array([[12.0, 30, 32, 40]])
    # centre (15, 30), size (10, 20) to centre (22, 35), size (20, 10)
    np.testing.assert_allclose(encode(box, anchor), [[0.7, 0.25, np.log(2), np.log(0.5)]])
    np.testing.assert_allclose(decode(np.zeros((1, 4)), anchor), anchor)


def test_decoding_takes_a_batch():
    anchors = random_boxes(0, 5)
    deltas = np.random.default_rng(0).normal(size=(3, 5, 4))
    np.testing.assert_array_equal(decode(deltas, anchors)[2], decode(deltas[2], anchors))


@settings(deadline=None)
@given(seeds, st.integers(0, 20))
def test_overlaps_are_pycocotools(seed, count):
    boxes = random_boxes(seed, count + 1)
    xywh = np.stack([boxes[:, 1], boxes[:, 0], boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)
    ours = iou(boxes[0], boxes[1:])
    assert ours.shape == (count,)
    if count:
        np.testing.assert_allclose(ours, mask.iou(xywh[:1], xywh[1:], [0] * count)[0], atol=1e-9)


@settings(deadline=None)
@given(seeds)
def test_overlap_lies_between_0_and_1_and_is_mutual(seed):
    boxes = random_boxes(seed, 6)
    table = np.array([iou(box, boxes) for box in boxes])
    np.testing.assert_allclose(table, table.T)
    np.testing.assert_allclose(np.diag(table), 1)
    assert (table >= 0).all()
    assert (table <= 1 + 1e-12).all()
    np.testing.assert_allclose(iou(3 * boxes[0] + 5, 3 * boxes + 5), table[0])


def test_empty_boxes_overlap_nothing():
    box, empty = np.array([0.0, 0, 4, 4]), np.array([[2.0, 2, 2, 2], [4, 0, 8, 4], [9, 9, 3, 3]])
    assert iou(box, empty).tolist() == [0, 0, 0]
    assert iou(empty[0], empty[:1]).tolist() == [0]


def test_areas_of_boxes_turned_inside_out_are_0():
    assert areas(np.array([[0.0, 0, 2, 3], [2, 3, 0, 0], [0, 3, 2, 0], [1, 1, 1, 5]])).tolist() == [
        6,
        0,
        0,
        0,
    ]


def test_boxes_are_cut_at_the_edges():
    boxes = np.array([[-5, -6, 30, 50], [1, 2, 3, 4], [25, 45, 28, 60]], np.float32)
    cut = clip(boxes, (20, 40))
    assert cut.tolist() == [[0, 0, 20, 40], [1, 2, 3, 4], [20, 40, 20, 40]]
    assert cut.dtype == np.float32
