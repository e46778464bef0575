"""How well anchors cover boxes, and anchors that fit better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.data_sets import REAL, needs_bccd

from effkeras.data.all_splits import merged, read_all
from effkeras.data.preprocess import place, placement
from effkeras.data.records import Category, DetectionData, DetectionRecord, ReadOptions
from effkeras.definitions import zoo
from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.detection.anchor_fit import aspect_ratios, best_ious, fit, input_boxes, kmeans, suggest
from effkeras.detection.boxes import anchor_boxes, iou


def lite0(height: int, width: int, scale: float = 3.0) -> ModelSpec:
    spec = zoo.spec("efficientdet-lite0")
    anchors = replace(spec.anchors, scale=scale)
    return spec.replace(input=replace(spec.input, size=(height, width)), anchors=anchors)


def random_boxes(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    low = chance.random((count, 2)) * size * 0.9
    sides = np.exp(chance.uniform(np.log(3), np.log(max(size)), (count, 2)))
    return np.concatenate([low, np.minimum(low + sides, size)], axis=1)


@pytest.mark.parametrize("size", [(320, 320), (192, 256), (161, 97)])
def test_the_best_iou_is_that_of_all_anchors(size):
    """Against the IoU with every anchor."""
    spec, boxes = lite0(*size), random_boxes(80, size)
    anchors = anchor_boxes(spec).astype(np.float64)
    wanted = [iou(box, anchors).max() for box in boxes]
    np.testing.assert_allclose(best_ious(boxes, spec), wanted, atol=1e-6)


def data_of(boxes: list[list[float]], classes: list[int], size: tuple[int, int]) -> DetectionData:
    table = np.array(boxes, np.float32)
    record = DetectionRecord(
        Path("a.png"), 1, size, table, np.array(classes), np.zeros(len(table), bool), np.ones(len(table))
    )
    return DetectionData(
        Path("data"), "train", (Category(1, "a"), Category(2, "b"), Category(3, "c")), (record,)
    )


def test_boxes_are_resized_with_their_image():
    data = data_of([[0, 0, 100, 100], [50, 50, 100, 200]], [0, 1], (100, 200))
    found = input_boxes(data, lite0(320, 320).input)
    np.testing.assert_allclose(found.boxes, [[0, 0, 160, 160], [80, 80, 160, 320]])
    assert found.classes.tolist() == [0, 1]


@pytest.mark.parametrize("resize", ["letterbox", "center-crop"])
@pytest.mark.parametrize("size", [(30, 50), (64, 64), (97, 20)])
def test_a_placement_is_that_of_the_image(resize, size):
    spec = InputSpec((48, 64), (0, 0, 0), (1, 1, 1), resize, crop=0.9)
    placed = place(np.zeros((*size, 3), np.uint8), spec).placement
    assert (placed.scale, placed.offset, placed.size) == (
        placement(size, spec).scale,
        placement(size, spec).offset,
        size,
    )


def test_the_cover_is_counted_by_class():
    """At scale 3 the smallest anchors have 24 pixels: boxes of 8 pixels have an IoU of 1/9."""
    data = data_of([[0, 0, 8, 8], [100, 100, 124, 124], [40, 40, 48, 48]], [0, 1, 1], (320, 320))
    found = fit(input_boxes(data, lite0(320, 320).input), lite0(320, 320), 3)
    assert found.covered[:2] == (0.0, 0.5)
    assert np.isnan(found.covered[2])
    assert found.worst == 0


def test_kmeans_finds_clusters_and_is_seeded():
    chance = np.random.default_rng(0)
    centers = np.array([[10, 10], [30, 60], [200, 100]], float)
    sides = np.repeat(centers, 50, axis=0) * chance.uniform(0.9, 1.1, (150, 2))
    found = kmeans(sides, 3, seed=1)
    np.testing.assert_allclose(found, centers, rtol=0.05)
    np.testing.assert_array_equal(found, kmeans(sides, 3, seed=1))
    assert len(kmeans(np.full((9, 2), 5.0), 3)) == 1


def test_aspect_ratios_are_width_by_height():
    sides = np.array([[10, 10], [40, 40], [10, 40], [20, 80], [30, 10], [60, 20]], float)
    assert aspect_ratios(sides) == (1.0, 0.33, 4.0)


def test_small_boxes_get_smaller_anchors_and_a_larger_input():
    boxes = [[y, x, y + 18, x + 19] for y in range(0, 460, 60) for x in range(0, 600, 60)]
    found = suggest(data_of(boxes, [0] * len(boxes), (480, 640)), lite0(320, 320))
    assert found.anchors.scale < 3
    assert found.size[0] > 320
    assert found.worst > 0.9


def test_long_boxes_get_other_aspect_ratios():
    boxes = [[y, x, y + 20, x + 140] for y in range(0, 290, 13) for x in range(0, 180, 17)]
    found = suggest(data_of(boxes, [0] * len(boxes), (320, 320)), lite0(320, 320))
    assert max(found.anchors.aspect_ratios) == pytest.approx(7, rel=0.1)
    assert found.worst > 0.9


@needs_bccd
def test_bccds_platelets_need_smaller_anchors():
    """What trainings showed: at 320 pixels, scale 2; at 192 x 256, 70 % of the platelets have no anchor."""
    splits = read_all(REAL / "bccd", ReadOptions(skip_bad=True))
    data = merged([one for one in splits if one.split != "trainval"], "train")
    assert isinstance(data, DetectionData)
    found = fit(input_boxes(data, lite0(192, 256).input), lite0(192, 256), 3)
    assert found.covered[data.labels.index("Platelets")] == pytest.approx(0.3, abs=0.01)
    better = suggest(data, lite0(320, 320))
    assert (better.size, better.anchors.scale) == ((320, 320), 2.0)
    assert better.worst > 0.97
