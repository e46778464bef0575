"""Progressive resizing: stages as the paper has them, one set of weights, and exact resumption."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from support.tiny import random_images, tiny_cells, tiny_classifier, tiny_detector

import effkeras
from effkeras.building.models import build_spec
from effkeras.data.augmentations import AugmentSpec
from effkeras.data.splits import open_data
from effkeras.definitions import zoo
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.support.errors import EffkerasError
from effkeras.training.loop import Job, train
from effkeras.training.progressive import Amounts, Progressive, sized, stages_of
from effkeras.training.session import Session
from effkeras.training.settings import TrainSettings, settings_of

TWO = Progressive(size=32, stages=2, augment=Amounts({"brightness": 0.0}))
SETTINGS = TrainSettings(steps=4, batch=8, progressive=TWO, validation_images=2)


def classifier() -> ModelSpec:
    return with_size(tiny_classifier(), (64, 64))


def test_stages_are_those_of_the_paper():
    """Table 6 for M: 128 to 380 pixels, RandAugment 5 to 20, mixup to 0.2, dropout 0.1 to 0.4."""
    spec = zoo.spec("efficientnetv2-m")
    network = dataclasses.replace(spec.network, dropout=0.4)
    spec = with_size(spec.replace(network=network), (380, 380))
    start = Amounts({"rand_augment": [2, 5.0], "mixup": [0.0, 0.2]})
    end = AugmentSpec({"rand_augment": (2, 20.0), "mixup": (0.5, 0.2)})
    stages = stages_of(Progressive(128, 4, 0.1, start), spec, end)
    assert [one.spec.input.size[0] for one in stages] == [128, 224, 288, 380]  # 212 and 296, in steps of 32
    assert [one.augment["rand_augment"] for one in stages] == [(2, 5.0), (2, 10.0), (2, 15.0), (2, 20.0)]
    assert [one.dropout for one in stages] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [one.augment["mixup"][0] for one in stages] == pytest.approx([0, 1 / 6, 1 / 3, 1 / 2])
    assert stages[-1].spec == spec


def test_the_sides_keep_their_ratio_and_the_last_stage_the_model():
    spec = with_size(tiny_detector(), (96, 160))
    stages = stages_of(Progressive(32, 3), spec, AugmentSpec())
    assert [one.spec.input.size for one in stages] == [(32, 64), (64, 96), (96, 160)]
    (only,) = stages_of(None, spec, AugmentSpec())
    assert only.spec == spec


def test_each_step_belongs_to_a_stage():
    progressive = Progressive(32, 4)
    assert [progressive.stage_after(step / 10) for step in range(11)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("progressive", "spec", "said"),
    [
        (Progressive(64), classifier(), "from 32 to below the 64 pixels of tiny-classifier, not 64"),
        (Progressive(32, 1), classifier(), "stages must be 2 or more, not 1"),
        (Progressive(32, dropout=1.5), classifier(), "dropout must lie between 0 and 1, not 1.5"),
        (Progressive(32, dropout=0.1), tiny_detector(), "tiny has none"),
        (Progressive(32), tiny_cells(size=(64, 64), auxiliary=0.4), "does not go with an auxiliary head"),
        (
            Progressive(32, augment=Amounts({"flip": False})),
            classifier(),
            "flip cannot grow from False to True",
        ),
    ],
)
def test_what_cannot_be_is_one_line(progressive, spec, said):
    with pytest.raises(EffkerasError, match=said):
        stages_of(progressive, spec, AugmentSpec())


def test_an_unknown_amount_is_named():
    table = {"progressive": {"size": 32, "augment": {"rand_augmet": 1}}}
    with pytest.raises(EffkerasError, match=r"t\.toml: progressive: augment: unknown key 'rand_augmet'"):
        settings_of(table, "t.toml")


@pytest.mark.parametrize("spec", [classifier(), tiny_detector()], ids=["classifier", "detector"])
def test_the_model_of_a_stage_has_the_weights_of_the_whole(spec):
    """Its outputs are those of a model that is built for the size and given these weights."""
    small = with_size(spec, (32, 32))
    whole, oracle = build_spec(spec), build_spec(small)
    staged = sized(whole, build_spec(small))
    assert [id(one) for one in staged.variables] == [id(one) for one in whole.variables]
    oracle.set_weights(whole.get_weights())
    pixels = random_images(2, 32)
    for ours, theirs in zip(*(_flat(model(pixels)) for model in (staged, oracle)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _flat(outputs: object) -> list[np.ndarray]:
    values = outputs.values() if isinstance(outputs, dict) else [outputs]
    return [np.asarray(one) for one in values]


def test_weights_that_depend_on_the_size_are_named():
    models = []
    for side in (8, 16):
        x = keras.Input((side, side, 3))
        models.append(keras.Model(x, keras.layers.Dense(2, name="last")(keras.layers.Flatten()(x))))
    with pytest.raises(EffkerasError, match="the layer 'last' has other weights"):
        sized(*models)


@pytest.mark.slow
def test_a_detector_trains_in_stages(digits, tmp_path, capsys):
    train(_job(tiny_detector(), digits, tmp_path / "run"))
    said = capsys.readouterr().err
    assert "stage 1 of 2: images of 32x32" in said
    assert "stage 2 of 2: images of 64x64" in said
    assert effkeras.load(tmp_path / "run").input.shape[1:3] == (64, 64)


@pytest.mark.slow
def test_it_resumes_exactly_in_a_later_stage(whole_run, digit_classes, tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    end_step = Session.end_step

    def stopped(self, now, logs):
        end_step(self, now, logs)
        if now == 3:
            self._save(dataclasses.replace(self.progress, step=now))
            raise StopError

    monkeypatch.setattr(Session, "end_step", stopped)
    job = _job(classifier(), digit_classes, tmp_path / "run")
    with pytest.raises(StopError):
        train(job)
    monkeypatch.undo()
    train(job)
    ours, theirs = (np.load(run / "checkpoint.npz") for run in (tmp_path / "run", whole_run))
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs.files if name != "progress")


@pytest.fixture(scope="module")
def whole_run(digit_classes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(_job(classifier(), digit_classes, out))
    return out


def _job(spec: ModelSpec, data: Path, out: Path) -> Job:
    return Job(spec, open_data(data, "train"), open_data(data, "val"), SETTINGS, out)
