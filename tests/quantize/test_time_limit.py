"""How long a step's training is: by its recipe, by the data, and within the minutes of a command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.tiny import tiny_classifier

from effkeras.data.records import ClassificationData, ClassificationRecord
from effkeras.training import loop
from effkeras.training.loop import TuneJob
from effkeras.training.run import Run
from effkeras.training.settings import TrainSettings
from quantize import driver, recipes, time_limit, work_folder
from quantize.attempts import Budget
from quantize.post_training.options import PtqOptions
from quantize.report import Compressed, StepReport
from quantize.specs import TuneSpec
from quantize.splits import Splits, StepTraining
from quantize.steps.step import Stage, unchanged
from quantize.time_limit import LEAST_STEPS, LONGEST, TimeLimit, within
from quantize.work_folder import Work


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


def test_long_measurements_after_the_trainings_leave_them_less():
    limit = TimeLimit(10, 100, lambda: 130, images=3000)
    assert limit.seconds(1, start=0, an_image=0.01) == pytest.approx(600 * 0.8 - 30)
    assert limit.seconds(1, start=0, an_image=0.1) == pytest.approx(600 - 300 - 30)


def test_all_that_is_measured_after_the_trainings_counts():
    splits = Splits(data(50), data(5000), data(3000))
    work = Work(Path("work"), TrainSettings(), limit=TimeLimit(10, 0))
    recipe = recipes.find("prune50-int8")
    job = driver.Job(None, recipe, PtqOptions(recipe.format), splits, Budget(), work)
    after = driver.limited(work, job).limit
    assert after.images >= 3 * 5000 + 2 * 3000  # val once more, for the share of the steps in the drop
    shorter = dataclasses.replace(job, budget=Budget(limit=10))
    assert driver.limited(work, shorter).limit.images == after.images - 3 * 4990 - 2 * 2990
    assert driver.limited(dataclasses.replace(work, limit=None), job).limit is None


def test_training_images_are_opened_once_for_all_stages_and_their_timing(tmp_path, monkeypatch):
    spec = tiny_classifier().replace(classes=1, labels=("a",))
    opened: list[object] = []
    used: list[object] = []
    monkeypatch.setattr(loop, "ImageStore", lambda *_: opened.append(object()) or opened[-1])
    monkeypatch.setattr(work_folder, "spec_of", lambda _: spec)
    monkeypatch.setattr(work_folder, "_begun", lambda *_: Compressed(None, StepReport("x", ())))
    monkeypatch.setattr(work_folder, "within", lambda _limit, _left, job: used.append(job.store) or job)
    monkeypatch.setattr(work_folder, "tune", lambda job: used.append(job.store))
    carry_out = work_folder._by_ourselves(lambda model: model, StepTraining(data(9), tmp_path), None)
    for left in (2, 1):
        carry_out(Stage("x", unchanged("x")), None, tmp_path, left)
    assert len(opened) == 1
    assert used == opened * 4


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
    stopping = dataclasses.replace(job, settings=dataclasses.replace(job.settings, early_stop=True))
    longest = min(steps, 170) if now >= 100 else LONGEST * 600
    assert within(limit, 2, stopping).settings.total_steps(12) == longest
    stated = dataclasses.replace(stopping.settings, steps=None, epochs=2)
    assert within(limit, 2, dataclasses.replace(job, settings=stated)).settings.total_steps(12) <= 24
    kept = dataclasses.replace(job.settings, steps=77)
    Run(job.out).start(job.spec, kept)
    assert within(limit, 2, job).settings.steps == 77
