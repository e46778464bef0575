"""A training fits a new detector's anchors to its boxes, and makes up for rare classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny import tiny_classifier, tiny_detector

from effkeras.data import store
from effkeras.data.records import Category, DetectionData, DetectionRecord
from effkeras.data.splits import open_data
from effkeras.definitions import zoo
from effkeras.training.fitted import balanced_weights, class_counts, repeat_factors, with_fitted_anchors
from effkeras.training.run import Run
from effkeras.training.settings import TrainSettings


def data_of(side: int) -> DetectionData:
    """Square boxes of one size on an image of the network's size."""
    boxes = np.array([[y, x, y + side, x + side] for y in (3, 99, 201) for x in (11, 107, 211)], np.float32)
    none = np.zeros(len(boxes), bool)
    record = DetectionRecord(Path("a.png"), 1, (320, 320), boxes, none.astype(int), none, np.ones(len(boxes)))
    return DetectionData(Path("data"), "train", (Category(1, "ball"),), (record,))


SPEC = zoo.spec("efficientdet-lite0")


def test_anchors_follow_the_boxes_and_the_note_says_so(tmp_path, capsys):
    found = with_fitted_anchors(SPEC, data_of(16), Run(tmp_path / "run"))
    assert found.anchors.scale < SPEC.anchors.scale
    assert found == SPEC.replace(anchors=found.anchors)
    assert f"scale {found.anchors.scale:g}" in capsys.readouterr().err


def test_boxes_too_small_for_any_anchor_are_told(tmp_path, capsys):
    with_fitted_anchors(SPEC, data_of(5), Run(tmp_path / "run"))
    assert "'ball'; a larger --input" in " ".join(capsys.readouterr().err.split())


def test_anchors_that_fit_stay(tmp_path, capsys):
    assert with_fitted_anchors(SPEC, data_of(96), Run(tmp_path / "run")) == SPEC
    assert not capsys.readouterr().err


def test_a_run_that_exists_keeps_its_anchors(tmp_path):
    run, stored = Run(tmp_path / "run"), SPEC.replace(anchors=replace(SPEC.anchors, scale=5.0))
    run.start(stored, TrainSettings())
    assert with_fitted_anchors(SPEC, data_of(16), run) == stored


@pytest.mark.parametrize(
    "spec", [tiny_classifier(), zoo.spec("efficientdet-lite0").replace(heads=("segment",))]
)
def test_models_without_boxes_are_unchanged(spec, tmp_path):
    assert with_fitted_anchors(spec, data_of(16), Run(tmp_path)) is spec


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
