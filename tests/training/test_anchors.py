"""A training fits a new detector's anchors to its boxes; a run that exists keeps those that it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny import tiny_classifier

from effkeras.data.records import Category, DetectionData, DetectionRecord
from effkeras.definitions import zoo
from effkeras.training.anchors import with_fitted_anchors
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
