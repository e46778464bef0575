"""A detector on another network learns."""

from __future__ import annotations

import dataclasses
import json

import pytest
from support.tiny import digits_folder

import effkeras
from effkeras.data.augmentations import AugmentSpec
from effkeras.data.splits import open_data
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import HeadSpec, ModelSpec
from effkeras.definitions.networks import BatchNormSpec
from effkeras.layers.normalize import spec_of
from effkeras.training.loop import Job, train
from effkeras.training.settings import TrainSettings
from effkeras.weights.keras_files import save

SIDE = 96
FAST_NORM = BatchNormSpec(momentum=0.9)  # for a training of a few hundred steps


def small_detector() -> ModelSpec:
    """The digits detector with less pyramid and head."""
    spec = with_size(effkeras.spec("efficientdet-digits"), (SIDE, SIDE))
    fpn = dataclasses.replace(spec.fpn, cells=1, channels=48, batch_norm=FAST_NORM)
    return spec.replace(name="small", fpn=fpn, head=HeadSpec(repeats=1))


@pytest.mark.nightly("training")
def test_a_detector_on_a_classifier_finds_digits(tmp_path):
    """The shipped classifier of single digits, with its weights, becomes a detector of many."""
    data = digits_folder(tmp_path / "data", size=SIDE, train=1200, val=100, max_digits=4)
    start = effkeras.build(small_detector(), backbone=effkeras.build("efficientnet-digits", weights="digits"))
    save(start, tmp_path / "start.keras")
    spec = spec_of(start)
    spec = spec.replace(network=dataclasses.replace(spec.network, batch_norm=FAST_NORM))
    settings = TrainSettings(
        epochs=3,
        learning_rate=4e-3,
        warmup_epochs=0.5,
        ema=0.98,
        validation_images=100,
        augment=AugmentSpec({"flip": False, "scale": (0.9, 1.1)}),
    )
    sets = open_data(data, "train"), open_data(data, "val")
    train(Job(spec, *sets, settings, tmp_path / "run", str(tmp_path / "start.keras")))
    rows = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["metrics"]["AP50"] > 0.3
