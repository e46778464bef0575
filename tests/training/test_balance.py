"""Weights for rare classes."""

from __future__ import annotations

import numpy as np
import pytest

from effkeras.data.splits import open_data
from effkeras.training.balance import balanced_weights, class_counts


def test_weights_are_the_inverse_effective_numbers():
    counts = np.array([4000, 300, 0, 7])
    weights = np.array(balanced_weights(counts))
    effective = [sum(0.999**i for i in range(count)) for count in counts]
    assert weights[1] / weights[0] == pytest.approx(effective[0] / effective[1])
    assert weights[3] / weights[1] == pytest.approx(effective[1] / effective[3])
    assert weights[2] == 1
    assert (weights * counts).sum() == pytest.approx(counts.sum())
    assert balanced_weights([5, 5]) == (1.0, 1.0)
    assert balanced_weights([0, 0]) == (1.0, 1.0)


def test_boxes_and_images_are_counted(digits, digit_classes):
    boxes = open_data(digits, "train")
    found = class_counts(boxes, 10)
    assert found.sum() == sum((~record.crowd).sum() for record in boxes.records)
    images = open_data(digit_classes, "train")
    assert class_counts(images, 12).tolist() == [
        sum(record.label == label for record in images.records) for label in range(12)
    ]
