"""Anchors are the authors' (google/automl efficientdet `anchors.py`)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import effkeras
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import AnchorSpec, ModelSpec
from effkeras.detection.anchors import anchor_boxes, level_sizes
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
