"""Random true boxes and detections, for tests of detection metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effkeras.data.records import Category, DetectionData, DetectionRecord
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
