"""Box arithmetic: coding and its inverse, areas, overlaps, clipping; anchor boxes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

import effkeras
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import AnchorSpec, ModelSpec
from effkeras.detection.boxes import anchor_boxes, areas, clip, decode, encode, iou, level_sizes
from effkeras.support.errors import EffkerasError

# google/automl efficientdet: input size, levels, sizes of the maps, anchors
COUNTS = {
    "d0": (512, (3, 7), [64, 32, 16, 8, 4], 49104),
    "d1": (640, (3, 7), [80, 40, 20, 10, 5], 76725),
    "d2": (768, (3, 7), [96, 48, 24, 12, 6], 110484),
    "d3": (896, (3, 7), [112, 56, 28, 14, 7], 150381),
    "d4": (1024, (3, 7), [128, 64, 32, 16, 8], 196416),
    "d5, d6": (1280, (3, 7), [160, 80, 40, 20, 10], 306900),
    "d7": (1536, (3, 7), [192, 96, 48, 24, 12], 441936),
    "d7x": (1536, (3, 8), [192, 96, 48, 24, 12, 6], 442260),
    "lite0": (320, (3, 7), [40, 20, 10, 5, 3], 19206),
    "lite1": (384, (3, 7), [48, 24, 12, 6, 3], 27621),
    "lite2": (448, (3, 7), [56, 28, 14, 7, 4], 37629),
    "lite3": (512, (3, 7), [64, 32, 16, 8, 4], 49104),
    "lite4": (640, (3, 7), [80, 40, 20, 10, 5], 76725),
}


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


def spec_of(size: tuple[int, int], levels=(3, 7), **anchors) -> ModelSpec:
    spec = effkeras.spec("d0")
    return with_size(spec, size).replace(
        fpn=dataclasses.replace(spec.fpn, levels=levels), anchors=AnchorSpec(**anchors)
    )


@pytest.mark.parametrize("name", COUNTS)
def test_there_are_as_many_anchors_as_published(name):
    size, levels, sizes, count = COUNTS[name]
    spec = spec_of((size, size), levels)
    assert level_sizes(spec) == [(side, side) for side in sizes]
    assert anchor_boxes(spec).shape == (count, 4)


def test_an_anchor_by_hand():
    anchors = anchor_boxes(spec_of((512, 512))).reshape(-1, 9, 4)
    # Level 4, row 2, column 5: stride 16, centre (40, 88); the last octave is 2^(2/3).
    nine = anchors[64 * 64 + 2 * 32 + 5]
    np.testing.assert_allclose(nine[0], [40 - 32, 88 - 32, 40 + 32, 88 + 32], rtol=1e-6)
    side = 4 * 16 * 2 ** (2 / 3)
    height, width = side / np.sqrt(2), side * np.sqrt(2)
    np.testing.assert_allclose(
        nine[7], [40 - height / 2, 88 - width / 2, 40 + height / 2, 88 + width / 2], rtol=1e-6
    )
    height, width = width, height
    np.testing.assert_allclose(
        nine[8], [40 - height / 2, 88 - width / 2, 40 + height / 2, 88 + width / 2], rtol=1e-6
    )


def test_octaves_are_outer_and_shapes_inner():
    boxes = anchor_boxes(spec_of((64, 64)))[:9].astype(np.float64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(
        np.sqrt(sizes.prod(axis=1)) / 32, np.repeat(2 ** (np.arange(3) / 3), 3), rtol=1e-5
    )
    np.testing.assert_allclose(sizes[:, 1] / sizes[:, 0], [1, 2, 0.5] * 3, rtol=1e-5)


def test_locations_are_row_major():
    boxes = anchor_boxes(spec_of((64, 128), octaves=1, aspect_ratios=(1.0,)))
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centers[:3].tolist() == [[4, 4], [4, 12], [4, 20]]
    assert centers[16].tolist() == [12, 4]


def test_strides_at_odd_sizes_are_not_whole():
    spec = spec_of((100, 132), octaves=1, aspect_ratios=(1.0,))
    assert level_sizes(spec) == [(13, 17), (7, 9), (4, 5), (2, 3), (1, 2)]
    boxes = anchor_boxes(spec)
    assert len(boxes) == 13 * 17 + 7 * 9 + 4 * 5 + 2 * 3 + 1 * 2
    stride = np.array([100 / 13, 132 / 17])
    np.testing.assert_allclose(boxes[0, :2], stride / 2 - 2 * stride, rtol=1e-5)
    np.testing.assert_allclose(boxes[0, 2:], stride / 2 + 2 * stride, rtol=1e-5)
    # The last level is one row of two cells.
    np.testing.assert_allclose(boxes[-1], [50 - 200, 99 - 132, 50 + 200, 99 + 132], rtol=1e-5)


def test_a_scale_enlarges_about_the_centre():
    small, large = anchor_boxes(spec_of((64, 64), scale=2.0)), anchor_boxes(spec_of((64, 64), scale=6.0))
    np.testing.assert_allclose(small[:, :2] + small[:, 2:], large[:, :2] + large[:, 2:], atol=1e-3)
    np.testing.assert_allclose(3 * (small[:, 2:] - small[:, :2]), large[:, 2:] - large[:, :2], rtol=1e-4)


def test_classifiers_have_no_anchors():
    with pytest.raises(EffkerasError, match="is not a detector"):
        anchor_boxes(effkeras.spec("b0"))
