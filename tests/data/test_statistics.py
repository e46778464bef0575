"""Boxes are counted by class, split and size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effkeras.data.records import (
    Category,
    ClassificationData,
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
    no_boxes,
)
from effkeras.data.statistics import ClassRow, all_boxes, class_rows, without_boxes


def record(*boxes: tuple[float, ...], label: int = 0) -> DetectionRecord:
    """An image of 200 x 100 pixels."""
    table = np.array(boxes, np.float32).reshape(-1, 4)
    areas = np.prod(table[:, 2:] - table[:, :2], axis=1)
    classes = np.full(len(table), label)
    return DetectionRecord(Path("a.png"), 1, (100, 200), table, classes, np.zeros(len(table), bool), areas)


def split(name: str, *records: DetectionRecord) -> DetectionData:
    return DetectionData(
        Path("data"), name, (Category(1, "cat"), Category(2, "dog"), Category(3, "cow")), records
    )


def test_boxes_are_counted_by_class_split_and_coco_size():
    train = split("train", record((0, 0, 10, 10), (0, 0, 32, 32)), record((0, 0, 100, 200), label=1))
    val = split("val", record((0, 0, 20, 20)), record())
    assert class_rows([train, val]) == [
        ClassRow("cat", (2, 1), (2, 1, 0), 400 / 20000),  # COCO: an area of 32 x 32 is medium
        ClassRow("dog", (1, 0), (0, 0, 1), 1.0),
        ClassRow("cow", (0, 0), (0, 0, 0), 0.0),
    ]
    assert without_boxes(val) == [1]


def test_a_split_without_boxes_has_empty_tables():
    table = all_boxes(split("train", record(), record()))
    assert table.boxes.shape == no_boxes().shape
    assert table.sizes.tolist() == [[100, 200], [100, 200]]
    assert all_boxes(split("train")).sizes.shape == (0, 2)


def test_images_with_classes_are_counted():
    records = tuple(ClassificationRecord(Path(f"{n}.png"), n % 2) for n in range(5))
    data = ClassificationData(Path("data"), "train", ("a", "b", "c"), records)
    assert [row.counts for row in class_rows([data])] == [(3,), (2,), (0,)]
    assert without_boxes(data) == []
