"""`effkeras eval`: tables by class, the split, and the threshold that `predict` and exports then use."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from support.tiny import digits_folder

from effkeras.building.models import build
from effkeras.cli import main
from effkeras.inference import predictor
from effkeras.inference.threshold import ENTRY, Threshold, kept_threshold
from effkeras.litert.rewriting import attached
from effkeras.support import results
from effkeras.weights.keras_files import save


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of the detector that ships."""
    folder = tmp_path_factory.mktemp("run") / "run"
    folder.mkdir()
    model = build("efficientdet-digits", weights="digits")
    save(model, folder / "model.keras")
    from effkeras.layers.normalize import spec_of

    (folder / "model.toml").write_text(spec_of(model).to_toml())
    return folder


@pytest.fixture(scope="module")
def detector(run):
    return predictor.open_predictor(run)


@pytest.fixture
def loaded(detector, monkeypatch):
    """The commands use a model that is loaded once."""
    monkeypatch.setattr(predictor, "open_predictor", lambda source, weights=None: detector)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Images of the size that the detector was trained on."""
    return digits_folder(tmp_path_factory.mktemp("data") / "digits", train=1, val=6, test=4)


def test_the_threshold_of_val_is_what_everything_uses(run, loaded, scenes, capsys):
    assert main(["eval", str(run), "--data", str(scenes)]) == 0
    out = capsys.readouterr().out
    assert "on 4 test images" in out
    assert "(the best on these images)" in out
    assert not (run / "threshold.toml").exists()  # only val decides

    assert main(["eval", str(run), "--data", str(scenes), "--split", "val"]) == 0
    kept = kept_threshold(run / "model.keras")
    assert kept is not None
    assert (kept.split, kept.images) == ("val", 6)
    assert kept.f1 > 0.9
    assert f"keeps the threshold {kept.score:.4g}" in capsys.readouterr().err

    assert main(["eval", str(run), "--data", str(scenes)]) == 0
    out = capsys.readouterr().out
    assert f"precision, recall and F1 at score {kept.score:.4g} (the best on 6 images of val)" in out
    assert re.search(r"^ class +boxes +AP +AP50 +precision +recall +F1", out, re.MULTILINE)
    assert re.search(r"^ all classes +\d+( +[01]\.\d{4}){5} *$", out, re.MULTILINE)
    row = results.read(run / "results.jsonl")[-1]
    assert row["threshold"]["score"] == kept.score
    assert {"AP", "AP50", "precision", "recall", "F1"} <= set(row["metrics"])
    values = [one["AP50"] for one in row["by_class"].values() if "AP50" in one]
    assert np.mean(values) == pytest.approx(row["metrics"]["AP50"])
    assert all({"boxes", "precision", "recall", "F1"} <= set(one) for one in row["by_class"].values())

    image = str(next((scenes / "test" / "images").iterdir()))
    assert main(["predict", str(run), image]) == 0
    captured = capsys.readouterr()
    assert f"boxes from score {kept.score:.4g} on" in captured.err
    scores = [one["score"] for one in json.loads(captured.out)["detections"]]
    assert main(["predict", str(run), image, "--min-score", "0.01"]) == 0
    captured = capsys.readouterr()
    assert "boxes from score" not in captured.err
    every = [one["score"] for one in json.loads(captured.out)["detections"]]
    assert scores == [score for score in every if score >= kept.score]


@pytest.mark.slow
def test_an_exported_file_keeps_the_threshold_wherever_it_goes(run, scenes, tmp_path, capsys):
    Threshold(0.625, 0.9, "val", 12).save(run)
    file = tmp_path / "a.tflite"
    assert main(["export", "tflite", str(run), "--recipe", "float32", "--out", str(file)]) == 0
    entry = attached(file.read_bytes(), ENTRY)
    assert Threshold.from_bytes(entry) == Threshold(0.625, 0.9, "val", 12)
    image = str(next((scenes / "test" / "images").iterdir()))
    capsys.readouterr()
    assert main(["predict", str(file), image]) == 0
    assert "boxes from score 0.625 on: the best threshold on 12 images of val" in capsys.readouterr().err


def test_val_is_measured_where_test_is_missing(run, loaded, scenes, tmp_path, capsys):
    shutil.copytree(scenes, tmp_path / "d", ignore=lambda _, names: {"test"} & set(names))
    source = tmp_path / "tiny.keras"
    shutil.copy(run / "model.keras", source)
    assert main(["eval", str(source), "--data", str(tmp_path / "d"), "--limit", "2"]) == 0
    captured = capsys.readouterr()
    assert "has no split test: measuring on val" in captured.err
    assert "on 2 val images" in captured.out
    assert not (tmp_path / "threshold.toml").exists()  # no run folder


def test_a_damaged_threshold_is_named(run, loaded, scenes, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "threshold.toml").write_text("score = 3")
    image = str(next((scenes / "test" / "images").iterdir()))
    assert main(["predict", str(tmp_path / "run"), image]) == 2
    assert "threshold.toml: the key 'f1' is missing" in capsys.readouterr().err


def test_a_classifier_names_its_worst_classes(digit_classes, capsys):
    words = ["eval", "efficientnet-digits", "--weights", "digits", "--data", str(digit_classes)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ ECE +0\.\d{4}$", out, re.MULTILINE)
    worst = re.search(r"the (\d+) classes with the lowest top1\n(.*)", out, re.DOTALL)
    values = [
        float(line.split()[-1]) for line in worst[2].splitlines() if re.search(r"0\.\d{4}|1\.0000", line)
    ]
    assert len(values) == int(worst[1]) <= 10
    assert values == sorted(values)
