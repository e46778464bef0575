"""Metrics equal those of pycocotools, the reference evaluator."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from effkeras.data.records import Category, DetectionData, DetectionRecord
from effkeras.detection.coco_metrics import coco_metrics
from effkeras.detection.nms import Detections
from effkeras.support.errors import EffkerasError

IDS = (1, 3, 90)  # with gaps, as COCO's are
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR": 8}


def record(image_id: int, draw: np.random.Generator, count: int, crowd: float = 0.2) -> DetectionRecord:
    corners = draw.uniform(0, 300, (count, 2))
    sides = np.exp(draw.uniform(np.log(8), np.log(250), (count, 2)))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return DetectionRecord(
        path=Path(f"{image_id}.jpg"),
        image_id=image_id,
        size=(600, 600),
        boxes=boxes,
        classes=draw.integers(0, len(IDS), count),
        crowd=draw.uniform(size=count) < crowd,
        areas=(sides.prod(axis=1) * draw.uniform(0.5, 1, count)).astype(np.float32),
    )


def guess(truth: DetectionRecord, draw: np.random.Generator) -> Detections:
    near = truth.boxes + draw.normal(0, 4, truth.boxes.shape).astype(np.float32)
    far = record(0, draw, 40)  # more than ten of a class, or AR at 10 and at 100 are the same
    boxes = np.concatenate([near, far.boxes])
    classes = np.concatenate([np.where(draw.uniform(size=len(near)) < 0.8, truth.classes, 0), far.classes])
    scores = draw.uniform(size=len(boxes)) + np.where(np.arange(len(boxes)) < len(near), 0.3, 0)
    return Detections(boxes, scores.astype(np.float32), classes)


def data_of(records: list[DetectionRecord]) -> DetectionData:
    categories = tuple(Category(one, f"c{one}") for one in IDS)
    return DetectionData(Path("somewhere"), "val", categories, tuple(records))


def official(records: list[DetectionRecord], found: dict[int, Detections]) -> dict[str, float]:
    truth = {
        "info": {},
        "images": [{"id": one.image_id, "height": 600, "width": 600} for one in records],
        "categories": [{"id": one, "name": f"c{one}"} for one in IDS],
        "annotations": [],
    }
    for one in records:
        for box, label, crowd, area in zip(one.boxes, one.classes, one.crowd, one.areas, strict=True):
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": one.image_id,
                    "category_id": IDS[label],
                    "bbox": xywh(box),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    guesses = [
        {"image_id": image_id, "category_id": IDS[label], "bbox": xywh(box), "score": float(score)}
        for image_id, one in found.items()
        for box, score, label in zip(one.boxes, one.scores, one.classes, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: judge.stats[index] for name, index in STATS.items() if judge.stats[index] >= 0}


def xywh(box: np.ndarray) -> list[float]:
    ymin, xmin, ymax, xmax = (float(value) for value in box)
    return [xmin, ymin, xmax - xmin, ymax - ymin]


@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_those_of_pycocotools(seed, capsys):
    draw = np.random.default_rng(seed)
    records = [record(10 + 7 * index, draw, int(draw.integers(0, 9))) for index in range(8)]
    found = {one.image_id: guess(one, draw) for one in records}
    ours = coco_metrics(data_of(records), found)
    wanted = official(records, found)
    assert ours == pytest.approx(wanted, abs=1e-6)
    assert 0.03 < ours["AP"] < 0.95
    assert capsys.readouterr().out == ""


def test_only_the_images_looked_at_are_judged():
    draw = np.random.default_rng(5)
    records = [record(index, draw, 5) for index in range(1, 5)]
    found = {one.image_id: guess(one, draw) for one in records[:2]}
    assert coco_metrics(data_of(records), found) == pytest.approx(official(records[:2], found), abs=1e-6)


def test_perfect_detections_score_1():
    draw = np.random.default_rng(6)
    records = [record(index, draw, 6, crowd=0) for index in range(1, 4)]
    found = {one.image_id: Detections(one.boxes, np.ones(6, np.float32), one.classes) for one in records}
    metrics = coco_metrics(data_of(records), found)
    assert metrics["AP"] == pytest.approx(1)
    assert metrics["AR"] == pytest.approx(1)


def test_a_size_without_boxes_is_left_out():
    box = np.array([[0, 0, 200, 200]], np.float32)
    one = DetectionRecord(
        Path("a.jpg"), 1, (600, 600), box, np.array([0]), np.array([False]), np.array([4e4], np.float32)
    )
    metrics = coco_metrics(data_of([one]), {1: Detections(box, np.ones(1, np.float32), np.array([0]))})
    assert "APl" in metrics
    assert not {"APs", "APm"} & set(metrics)


def nothing() -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def test_no_detections_score_0():
    records = [record(1, np.random.default_rng(7), 5)]
    metrics = coco_metrics(data_of(records), {1: nothing()})
    assert set(metrics.values()) == {0.0}
    assert {"AP", "AP50", "AP75", "AR"} <= set(metrics)


def test_without_true_boxes_there_is_nothing_to_measure():
    empty = record(1, np.random.default_rng(8), 0)
    for found in ({1: guess(record(2, np.random.default_rng(9), 3), np.random.default_rng(1))}, {}):
        with pytest.raises(EffkerasError, match="'val' has no ground-truth boxes"):
            coco_metrics(data_of([empty]), found)


def test_crowds_alone_are_nothing_to_measure():
    draw = np.random.default_rng(10)
    crowds = record(1, draw, 4, crowd=1)
    with pytest.raises(EffkerasError, match="'val' has no ground-truth boxes"):
        coco_metrics(data_of([crowds]), {1: guess(crowds, draw)})
