"""Weights for rare classes."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny import tiny_classifier, tiny_detector

from effkeras.data import store
from effkeras.data.splits import open_data
from effkeras.training.balance import balanced_weights, class_counts, repeat_factors


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


def test_repeats_are_those_of_the_rarest_class_of_an_image():
    """Class 0 is in 4 of 5 images, class 2 in one of them."""
    classes = [np.array(one, int) for one in ([0, 0, 0], [0, 2], [0], [0], [])]
    assert repeat_factors(classes) == pytest.approx((1, 2, 1, 1, 1))
    assert repeat_factors([np.zeros(0, int)] * 2) == (1, 1)


@pytest.mark.parametrize("budget", [None, 0], ids=["in memory", "read"])
def test_the_store_knows_the_classes(budget, digits, digit_classes, monkeypatch):
    if budget is not None:
        monkeypatch.setattr(store, "MEMORY_BUDGET", budget)
    for root, spec in ((digits, tiny_detector()), (digit_classes, tiny_classifier())):
        data = open_data(root, "train")
        made = store.ImageStore(data, spec.input)
        flat = np.concatenate(made.classes())
        assert len(made.classes()) == len(made)
        assert np.bincount(flat, minlength=10).tolist() == class_counts(data, 10).tolist()
