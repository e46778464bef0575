"""AP from stored matches: COCO's own value, and what weights mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effkeras.data.records import Category, DetectionData, DetectionRecord
from effkeras.detection.average_precision import Matches
from effkeras.detection.coco_metrics import coco_metrics
from effkeras.detection.nms import Detections

CLASSES = 3
IDS = (4, 7, 9)


def scene(seed: int, images: int = 12) -> tuple[DetectionData, dict[int, Detections]]:
    """Random true boxes, some of them crowds, and detections that are near them, doubled, or wrong."""
    random = np.random.default_rng(seed)
    records, found = [], {}
    for index in range(images):
        count = int(random.integers(0, 6))
        low = random.uniform(0, 60, (count, 2))
        boxes = np.concatenate([low, low + random.uniform(4, 40, (count, 2))], axis=1).astype(np.float32)
        classes = random.integers(0, CLASSES, count)
        sides = boxes[:, 2:] - boxes[:, :2]
        crowd = random.uniform(size=count) < 0.15
        records.append(
            DetectionRecord(
                Path(f"{index}.png"), index, (100, 100), boxes, classes, crowd, np.prod(sides, axis=1)
            )
        )
        found[index] = _guesses(random, boxes, classes)
    categories = tuple(Category(identity, str(identity)) for identity in IDS)
    return DetectionData(Path("scene"), "test", categories, tuple(records)), found


def _guesses(random, boxes, classes) -> Detections:
    near = np.repeat(boxes, 2, axis=0) + random.uniform(-1.9, 1.9, (2 * len(boxes), 4))
    low = random.uniform(0, 60, (3, 2))
    wrong = np.concatenate([low, low + random.uniform(4, 40, (3, 2))], axis=1)
    labels = np.concatenate([np.repeat(classes, 2), random.integers(0, CLASSES, 3)])
    scores = np.sort(random.uniform(0.01, 1, len(labels)).astype(np.float32))[::-1]
    shuffled = random.permutation(len(labels))
    return Detections(np.concatenate([near, wrong])[shuffled].astype(np.float32), scores, labels[shuffled])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_it_is_cocos_ap(seed):
    data, found = scene(seed)
    if all(record.crowd.all() for record in data.records):
        return
    wanted = coco_metrics(data, found)["AP"]
    assert Matches.of(data, found).average_precision() == pytest.approx(wanted, abs=1e-9)


def test_a_weight_of_two_is_the_image_twice_and_zero_is_without_it():
    data, found = scene(5)
    weights = np.random.default_rng(0).integers(0, 3, len(data.records)).astype(float)
    records, again = [], {}
    for record, weight in zip(data.records, weights, strict=True):
        for _ in range(int(weight)):
            again[len(records)] = found[record.image_id]
            records.append(dataclasses.replace(record, image_id=len(records)))
    repeated = dataclasses.replace(data, records=tuple(records))
    wanted = coco_metrics(repeated, again)["AP"]
    # Equal scores of the copies are cut in two by COCO's curve, never by ours.
    assert Matches.of(data, found).average_precision(weights) == pytest.approx(wanted, abs=0.03)


def test_nothing_found_is_zero():
    data, _ = scene(1)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    found = {record.image_id: nothing for record in data.records}
    assert Matches.of(data, found).average_precision() == 0
