"""How long a step's training is: by its recipe, by the data, and within the minutes of a command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.tiny import tiny_classifier

from effkeras.data.records import ClassificationData, ClassificationRecord
from effkeras.training.loop import TuneJob
from effkeras.training.run import Run
from quantize import time_limit
from quantize.specs import TuneSpec
from quantize.splits import StepTraining
from quantize.time_limit import LEAST_STEPS, TimeLimit, within


def data(images: int) -> ClassificationData:
    record = ClassificationRecord(Path("x.png"), 0)
    return ClassificationData(Path("x"), "train", ("a",), (record,) * images)


@pytest.mark.parametrize(
    ("epochs", "images", "steps", "warmup"),
    [(None, 205, 600, 0.2 * 600 / 36), (None, 16_000, 3000, 0.2), (2, 205, 24, 0.2)],
)
def test_a_tuning_is_at_most_three_epochs_and_longer_on_small_sets(epochs, images, steps, warmup, tmp_path):
    found = StepTraining(data(images), tmp_path, tune=TuneSpec(epochs)).settings
    assert found.total_steps(images // 16) == steps
    assert found.warmup_epochs == pytest.approx(warmup)
    assert not found.early_stop
    assert StepTraining(data(images), tmp_path, data(9), TuneSpec(epochs)).settings.early_stop


def test_starting_and_timing_trainings_takes_time_too():
    limit = TimeLimit(10, 100, lambda: 130)
    assert limit.seconds(2, start=50) == pytest.approx((600 * 0.8 - 30 - 3 * 50) / 2)
    assert limit.seconds(1, start=1000) == 0


@pytest.mark.parametrize(("now", "steps"), [(100, 170), (100 + 480, LEAST_STEPS), (-9000, 600)])
def test_minutes_bound_the_steps_of_each_training(now, steps, tmp_path, monkeypatch, capsys):
    """Ten minutes, of which a fifth is for the rest, for two trainings; the clock began at 100."""
    monkeypatch.setattr(time_limit, "step_seconds", lambda _: 1.2)
    job = TuneJob(None, tiny_classifier(), data(205), None, TuneSpec().settings(images=205), tmp_path / "run")
    limit = TimeLimit(10, 100, lambda: now)
    assert within(limit, 2, job).settings.total_steps(12) == steps
    said = capsys.readouterr().err
    assert f"{steps} steps of 600 fit into --minutes 10" in said
    assert ("give more minutes" in said) == (steps == LEAST_STEPS)
    assert within(None, 2, job) is job
    kept = dataclasses.replace(job.settings, steps=77)
    Run(job.out).start(job.spec, kept)
    assert within(limit, 2, job).settings.steps == 77
