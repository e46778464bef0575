"""Training improves a model, leaves a complete run folder, and resumes exactly."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.tiny import tiny_classifier, tiny_detector

import effkeras
from effkeras.data.augmentations import AugmentSpec
from effkeras.data.images import read_image
from effkeras.data.preprocess import network_input
from effkeras.data.splits import open_data, spread
from effkeras.definitions.networks import BatchNormSpec
from effkeras.inference.evaluate import Evaluation
from effkeras.inference.predictor import KerasPredictor
from effkeras.inference.threshold import best_threshold, kept_threshold
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.training import loop
from effkeras.training.checkpoint import load_checkpoint
from effkeras.training.compiling import compile_for
from effkeras.training.loop import Job, train
from effkeras.training.optimizers import FlatAdamW
from effkeras.training.pace import TimedPace
from effkeras.training.settings import TrainSettings

QUICK = TrainSettings(epochs=2, batch=8, learning_rate=3e-3, warmup_epochs=0.5, validation_images=8)


def job(data: Path, out: Path, settings: TrainSettings = QUICK, *, classify: bool = True) -> Job:
    spec = tiny_classifier() if classify else tiny_detector()
    return Job(spec, open_data(data, "train"), open_data(data, "val"), settings, out)


def weights_of(run: Path) -> list[np.ndarray]:
    return effkeras.load(run).get_weights()


@pytest.fixture(scope="module")
def traced():
    """An entry for each time that TensorFlow has traced a detector's step."""
    return []


@pytest.fixture(scope="module")
def measured_again():
    """An entry for each evaluation besides the validations."""
    return []


@pytest.fixture(scope="module")
def detector_run(digits, tmp_path_factory, traced, measured_again):
    out = tmp_path_factory.mktemp("runs") / "detector"
    apply = FlatAdamW.apply

    def counted(optimizer, *given):
        traced.append(optimizer)
        apply(optimizer, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlatAdamW, "apply", counted)
        patch.setattr(loop, "best_threshold", lambda *given: measured_again.append(given))
        train(job(digits, out, classify=False))
    return out


@pytest.fixture(scope="module")
def classifier_run(digit_classes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "classifier"
    train(job(digit_classes, out))
    return out


@pytest.mark.slow
def test_saved_statistics_are_those_of_the_images(digit_classes, tmp_path):
    """The trap: after twelve steps, a momentum of 0.99 has left 89 % of the statistics at their start."""
    spec = tiny_classifier()
    network = dataclasses.replace(spec.network, batch_norm=BatchNormSpec(momentum=0.99))
    unchanged = AugmentSpec(
        {"flip": False, "scale": (1.0, 1.0), "brightness": 0.0, "contrast": 0.0, "color": 0.0}
    )
    settings = TrainSettings(epochs=12, batch=24, learning_rate=1e-9, augment=unchanged)
    made = dataclasses.replace(
        job(digit_classes, tmp_path / "run", settings), spec=spec.replace(network=network)
    )
    model = train(made)
    images = [network_input(read_image(one.path), spec.input) for one in made.train.records]
    maps = outputs_of_model(keras.Model(model.input, model.get_layer("stem_conv").output), np.stack(images))
    norm = model.get_layer("stem_bn")
    np.testing.assert_allclose(norm.moving_mean, maps.mean((0, 1, 2)), rtol=0.01, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, maps.var((0, 1, 2)), rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["run", "file"])
def test_training_starts_from_the_weights_that_are_there(
    given, classifier_run, digit_classes, tmp_path, capsys
):
    """The trap: only the definition was taken. With a rate of 1e-9 the result is the start."""
    from effkeras.cli import main

    source = str(classifier_run if given == "run" else classifier_run / "model.keras")
    words = ["--data", str(digit_classes), "--epochs", "1", "--batch", "8", "--learning-rate", "1e-9"]
    assert main(["train", source, *words, "--out", str(tmp_path / "next")]) == 0
    assert f"starting from the weights in {classifier_run / 'model.keras'}" in capsys.readouterr().err
    for before, after in zip(_kernels(classifier_run), _kernels(tmp_path / "next"), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_a_saved_backbone_is_the_start(detector_run, digits, tmp_path, capsys, monkeypatch):
    """`--backbone RUN` brings the weights too; the pyramid's width differs."""
    from effkeras.cli import main

    spec = tiny_detector()
    (tmp_path / "wide.toml").write_text(
        spec.replace(fpn=dataclasses.replace(spec.fpn, channels=24)).to_toml()
    )
    made: list[Job] = []
    monkeypatch.setattr(loop, "train", made.append)
    words = ["--backbone", str(detector_run), "--data", str(digits), "--out", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "wide.toml"), *words, "--epochs", "1"]) == 0
    said = f"the backbone starts from the weights in {detector_run / 'model.keras'}"
    assert said in capsys.readouterr().err
    session = loop.session_of(made[0], steps_per_epoch=3)
    assert "final" not in vars(session)  # which would take seconds before the first step
    start = session.plain
    donor = effkeras.load(detector_run)
    for name in ("stem_conv", "stem_bn"):
        for ours, theirs in zip(start.get_layer(name).weights, donor.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_training_killed_before_its_first_checkpoint_starts_from_imagenet_again(tmp_path, monkeypatch):
    from effkeras.commands import train as command

    monkeypatch.setattr(command, "is_here", lambda *_: True)
    (tmp_path / "model.toml").touch()
    chosen = argparse.Namespace(model="d0", out=tmp_path, weights=None, backbone=None)
    assert command._weights(chosen, effkeras.spec("d0")) == "imagenet"
    (tmp_path / "checkpoint.npz").touch()
    assert command._weights(chosen, effkeras.spec("d0")) is None


def _kernels(run: Path) -> list[np.ndarray]:
    return [weight.numpy() for weight in effkeras.load(run).trainable_weights]


def test_run_folder_is_complete(detector_run):
    files = {path.name for path in detector_run.iterdir()}
    assert files == {
        "model.toml",
        "model.keras",
        "labels.txt",
        "train.toml",
        "data.toml",
        "threshold.toml",
        "checkpoint.npz",
        "results.jsonl",
    }
    assert (detector_run / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]
    spec = effkeras.spec(detector_run / "model.toml")
    assert spec == spec_of(effkeras.load(detector_run))
    assert spec.category_ids == tuple(range(1, 11))
    rows = [json.loads(line) for line in (detector_run / "results.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["loss"] < rows[0]["loss"]


@pytest.mark.usefixtures("detector_run")
def test_a_step_is_traced_once(traced):
    """Which takes most of the time of a short training."""
    assert len(traced) == 1


def test_the_threshold_is_that_of_the_best_validation(detector_run, digits, measured_again):
    assert not measured_again
    predictor = KerasPredictor.of(effkeras.load(detector_run))
    found = best_threshold(predictor, spread(open_data(digits, "val"), QUICK.validation_images))
    assert kept_threshold(detector_run / "model.keras") == found


def test_averaged_weights_are_the_result(classifier_run, digit_classes):
    """What is saved is the average (test_ema.py holds its formula), not the last weights."""
    model = effkeras.load(classifier_run)
    variables = model.variables
    stored = np.load(classifier_run / "checkpoint.npz")
    last = [stored[f"v{index}"] for index in range(len(variables))]
    averaged = [np.asarray(weight) for weight in model.weights if "seed" not in weight.path]
    last = [value for value, v in zip(last, variables, strict=False) if "seed" not in v.path]
    assert any(not np.allclose(a, b) for a, b in zip(averaged, last, strict=True))
    assert all(np.isfinite(value).all() for value in averaged)


def test_a_finished_run_is_left_alone(classifier_run, digit_classes, capsys):
    before = (classifier_run / "checkpoint.npz").read_bytes()
    train(job(digit_classes, classifier_run))
    assert "already trained" in capsys.readouterr().err
    assert (classifier_run / "checkpoint.npz").read_bytes() == before


@pytest.mark.slow
def test_resuming_after_an_epoch_is_exact(classifier_run, digit_classes, tmp_path, monkeypatch, capsys):
    """Interrupted after the first checkpoint; dropout, stochastic depth, DropBlock and averages included."""
    from effkeras.training import session

    class StopError(Exception):
        pass

    whole = session.Session.validate

    def interrupted(self, step, logs):
        whole(self, step, logs)
        raise StopError

    monkeypatch.setattr(session.Session, "validate", interrupted)
    out = tmp_path / "run"
    with pytest.raises(StopError):
        train(job(digit_classes, out))
    assert (out / "model.keras").exists()  # the best so far
    monkeypatch.undo()
    keras.utils.set_random_seed(99)
    train(job(digit_classes, out))
    assert "goes on after step 3 of 6" in capsys.readouterr().err
    assert _last(out) == _last(classifier_run)
    for ours, theirs in zip(weights_of(out), weights_of(classifier_run), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _last(run: Path) -> dict[str, bytes]:
    """The variables of the last checkpoint: a better model may be the result."""
    with np.load(run / "checkpoint.npz") as stored:
        return {name: stored[name].tobytes() for name in stored.files if name != "progress"}


@pytest.mark.slow
def test_a_finished_run_goes_on_when_more_is_asked(classifier_run, digit_classes, tmp_path, capsys):
    """Then on the learning rates of the longer training; without a length it stays as it is."""
    out = shutil.copytree(classifier_run, tmp_path / "run")
    train(job(digit_classes, out, dataclasses.replace(QUICK, epochs=None)))
    assert "already trained; a larger --epochs" in capsys.readouterr().err
    train(job(digit_classes, out, dataclasses.replace(QUICK, epochs=None, steps=8)))
    assert "goes on after step 6 of 8, on the learning rates of 8 steps" in capsys.readouterr().err
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6), (3, 7), (3, 8)]
    with pytest.raises(EffkerasError, match="steps was 8 and is now 7"):
        train(job(digit_classes, out, dataclasses.replace(QUICK, epochs=None, steps=7)))


@pytest.mark.slow
def test_the_learning_rate_falls_with_the_time(digit_classes, tmp_path, monkeypatch):
    """A training by minutes ends with them, and its rate with it, whatever its speed."""
    from effkeras.training import session

    seconds = itertools.count(0.0, 0.03)
    made = []

    def timed(settings, _, progress, begun):
        made.append(TimedPace(settings.minutes, progress, 0.0, lambda: next(seconds)))
        return made[0]

    monkeypatch.setattr(session, "pace_of", timed)
    monkeypatch.setattr(session, "evaluate_in_detail", lambda *a, **k: Evaluation({"top1": 0.5}, {}))
    rates = []
    monkeypatch.setattr(session.TimedCosine, "set_share", lambda self, share: rates.append(share))
    train(job(digit_classes, tmp_path / "run", dataclasses.replace(QUICK, epochs=None, minutes=0.15)))
    rows = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert 8 < made[0].used() < 9.5
    assert rates == sorted(rates)
    assert rates[-1] > 0.9
    assert len(rows) >= 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": dataclasses.replace(QUICK, seed=5)}, "seed was 0 and is now 5"),
        ({"spec": tiny_classifier().replace(name="other")}, "another model"),
    ],
)
def test_another_training_in_the_folder_is_refused(classifier_run, digit_classes, change, message):
    with pytest.raises(EffkerasError, match=message):
        train(dataclasses.replace(job(digit_classes, classifier_run), **change))


def test_data_of_the_other_kind_is_refused(digits, tmp_path):
    with pytest.raises(EffkerasError, match="needs a folder per class"):
        train(job(digits, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_bad_images_found_while_training_are_one_clear_error(digit_classes, tmp_path, monkeypatch):
    from effkeras.data import store

    monkeypatch.setattr(store, "MEMORY_BUDGET", 0)
    made = job(digit_classes, tmp_path / "run")
    (tmp_path / "bad.png").write_bytes(b"no image")
    broken = dataclasses.replace(made.train.records[0], path=tmp_path / "bad.png")
    data = dataclasses.replace(made.train, records=(broken, *made.train.records[1:]))
    with pytest.raises(EffkerasError, match=r"1 of 24 images cannot be used.*bad\.png"):
        train(dataclasses.replace(made, train=data))


def test_validation_sees_all_classes(digit_classes):
    data = open_data(digit_classes, "train")
    some = spread(data, 10)
    assert len(some.records) == 10
    assert len({record.label for record in some.records}) >= 8
    assert spread(data, 1000) is data


def test_settings_that_would_do_nothing_are_refused(digit_classes, tmp_path):
    made = job(digit_classes, tmp_path / "run", dataclasses.replace(QUICK, early_stop=True))
    with pytest.raises(EffkerasError, match="watches the split val"):
        train(dataclasses.replace(made, validation=None))
    for_boxes = dataclasses.replace(QUICK, box_loss="giou")
    with pytest.raises(EffkerasError, match="box_loss is a setting of boxes"):
        train(dataclasses.replace(made, settings=for_boxes))


def test_label_smoothing_reaches_the_losses():
    for made, name in ((tiny_classifier(), None), (tiny_detector(), "class_logits")):
        model = effkeras.build(made)
        compile_for(model, made, dataclasses.replace(QUICK, label_smoothing=0.1), steps=3)
        loss = model.loss[name] if name else model.loss
        assert loss.label_smoothing == 0.1


@pytest.mark.slow
def test_frozen_backbone_keeps_its_weights(digits, classifier_run, tmp_path):
    settings = dataclasses.replace(QUICK, epochs=1, freeze="backbone", mixed_precision="bfloat16")
    start = effkeras.build(tiny_detector())
    start.save(tmp_path / "start.keras")
    frozen = dataclasses.replace(
        job(digits, tmp_path / "run", settings, classify=False), weights=str(tmp_path / "start.keras")
    )
    model = train(frozen)
    for before, after in zip(start.layers, model.layers, strict=True):
        same = all(map(np.array_equal, before.get_weights(), after.get_weights()))
        if before.name.startswith(("stem_", "block")):
            assert same, before.name
        if before.name == "class_predict":
            assert not same
    assert model.get_layer("class_predict").compute_dtype == "float32"


@pytest.mark.slow
def test_early_stopping_keeps_the_best(digit_classes, tmp_path, monkeypatch):
    from effkeras.training import session

    scores = iter([0.5, 0.9, 0.4, 0.3, 0.2])
    monkeypatch.setattr(session, "evaluate_in_detail", lambda *a, **k: Evaluation({"top1": next(scores)}, {}))
    settings = dataclasses.replace(QUICK, epochs=5, early_stop=True, patience=2)
    out = tmp_path / "run"
    made = job(digit_classes, out, settings)
    result = train(made)
    progress = load_checkpoint(out / "checkpoint.npz", _state(made, out))
    assert (progress.step, progress.best, progress.best_step) == (12, 0.9, 6)
    assert progress.stopped
    for ours, saved in zip(result.get_weights(), weights_of(out), strict=True):
        np.testing.assert_array_equal(ours, saved)


def _state(made: Job, out: Path) -> list:
    from effkeras.training.loop import session_of

    resumed = dataclasses.replace(made, spec=effkeras.spec(out / "model.toml"))
    return session_of(resumed, steps_per_epoch=3).state()


@pytest.mark.slow
def test_resuming_after_a_kill_is_exact(digit_classes, tmp_path):
    """Its process dies without warning in the middle of a training; the same command finishes it."""
    from effkeras.cli import main

    (tmp_path / "tiny.toml").write_text(tiny_classifier().to_toml())
    words = ["train", str(tmp_path / "tiny.toml"), "--data", str(digit_classes)]
    words += ["--epochs", "30", "--batch", "4", "--out"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "effkeras", *words, str(tmp_path / "killed")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / "killed" / "checkpoint.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    with np.load(tmp_path / "killed" / "checkpoint.npz") as stored:
        assert json.loads(bytes(stored["progress"]))["step"] < 180
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert main([*words, str(tmp_path / "killed")]) == 0
    assert _last(tmp_path / "killed") == _last(tmp_path / "whole")
