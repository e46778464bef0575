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
from effkeras.inference.evaluation_files import read_details
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
    monkeypatch.setattr(predictor, "open_predictor", lambda *_: detector)
    monkeypatch.setenv("COLUMNS", "200")  # a title with a long path stays one line


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Images of the size that the detector was trained on."""
    return digits_folder(tmp_path_factory.mktemp("data") / "digits", train=1, val=4, test=4)


def test_the_threshold_of_val_is_what_everything_uses(run, loaded, scenes, capsys):
    assert main(["eval", str(run), "--data", str(scenes)]) == 0
    out, said = capsys.readouterr()
    assert f"next: effkeras export tflite {run} --recipe int8 --data {scenes}\n" in said
    assert "on 4 test images" in out
    assert "(the best on these images)" in out
    assert not (run / "threshold.toml").exists()  # only val decides

    assert main(["eval", str(run), "--data", str(scenes), "--split", "val"]) == 0
    kept = kept_threshold(run / "model.keras")
    assert kept is not None
    assert (kept.split, kept.images) == ("val", 4)
    assert kept.f1 > 0.8
    assert f"keeps the threshold {kept.score:.4g}" in capsys.readouterr().err

    assert main(["eval", str(run), "--data", str(scenes)]) == 0
    out = capsys.readouterr().out
    assert f"precision, recall and F1 at score {kept.score:.4g} (the best on 4 images of val)" in out
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
    assert main(["eval", str(source), "--data", str(tmp_path / "d"), "--limit", "4"]) == 0
    captured = capsys.readouterr()
    assert "has no split test: measuring on val" in captured.err
    assert "on 4 val images" in captured.out
    assert not (tmp_path / "threshold.toml").exists()  # no run folder


def test_a_damaged_threshold_is_named(run, loaded, scenes, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "threshold.toml").write_text("score = 3")
    image = str(next((scenes / "test" / "images").iterdir()))
    assert main(["predict", str(tmp_path / "run"), image]) == 2
    assert "threshold.toml is damaged (the key 'f1' is missing); delete it" in capsys.readouterr().err


def test_a_classifier_names_its_worst_classes(digit_classes, capsys):
    words = ["eval", "efficientnet-digits", "--weights", "digits", "--data", str(digit_classes)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ ECE +0\.\d{4} *$", out, re.MULTILINE)
    worst = re.search(r"the (\d+) classes with the lowest top1\n(.*)", out, re.DOTALL)
    values = [
        float(line.split()[-1]) for line in worst[2].splitlines() if re.search(r"0\.\d{4}|1\.0000", line)
    ]
    assert len(values) == int(worst[1]) <= 10
    assert values == sorted(values)


def test_written_results_have_the_ap_that_eval_prints(run, loaded, scenes, tmp_path, capsys):
    """COCO's evaluator reads the file beside the data set's labels."""
    from faster_coco_eval import COCO, COCOeval_faster

    file, images = tmp_path / "found.json", sorted((scenes / "test" / "images").iterdir())
    words = ["predict", str(run), *map(str, images[2:]), *map(str, images[:2]), "--min-score", "0"]
    assert main([*words, "--coco", str(file), "--data", str(scenes)]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4
    assert "boxes written" in captured.err
    truth = COCO(str(scenes / "test" / "labels.json"))
    judge = COCOeval_faster(truth, truth.loadRes(str(file)), "bbox", print_function=lambda *_: None)
    judge.run()
    assert main(["eval", str(run), "--data", str(scenes)]) == 0
    printed = re.search(r"AP +([01]\.\d{4})", capsys.readouterr().out)
    assert judge.stats_as_dict["AP_all"] == pytest.approx(float(printed[1]), abs=6e-5)


def test_results_without_a_data_set_number_the_images(run, loaded, scenes, tmp_path, capsys):
    file, folder = tmp_path / "found.json", scenes / "test" / "images"
    first = sorted(folder.iterdir())[-1]
    assert main(["predict", str(run), str(first), str(folder), "--json", str(file)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == list(
        dict.fromkeys([str(first), *map(str, sorted(folder.iterdir()))])
    )
    found = json.loads(file.read_text())
    boxes = [(number, one) for number, line in enumerate(lines, 1) for one in line["detections"]]
    assert [one["image_id"] for one in found] == [number for number, _ in boxes]
    for row, (_, one) in zip(found, boxes, strict=True):
        ymin, xmin, ymax, xmax = one["box"]
        assert row["bbox"] == pytest.approx([xmin, ymin, xmax - xmin, ymax - ymin], abs=0.11)
        assert row["category_id"] == one["class"] + 1  # the definition that ships has no ids
        assert row["score"] == pytest.approx(one["score"], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "DATA"], "give --coco FILE too"),
        (["--coco", "out.json", "--data", "DATA", "--split", "val"], "has no images of this name"),
    ],
)
@pytest.mark.usefixtures("loaded")
def test_options_that_do_not_fit_are_refused(words, message, scenes, tmp_path, capsys):
    image = tmp_path / "own.jpg"
    shutil.copy(next((scenes / "test" / "images").iterdir()), image)
    places = {"DATA": scenes, "out.json": tmp_path / "out.json"}
    assert main(["predict", "any", str(image), *(str(places.get(word, word)) for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_a_report_shows_curves_confusions_and_the_best_and_worst_images(run, loaded, scenes, capsys):
    assert main(["eval", str(run), "--data", str(scenes)]) == 0
    row = results.read(run / "results.jsonl")[-1]
    kept = read_details(run)
    assert (kept["split"], kept["images"]) == ("test", 4)
    counts = np.array(kept["confusion"])
    boxes = sum(one["boxes"] for one in row["by_class"].values())
    assert counts[:-1].sum() == boxes  # the last row is the background
    assert np.diag(counts).sum() == pytest.approx(row["metrics"]["recall"] * boxes)
    for values in kept["curves"].values():
        assert all(np.diff(values["score"]) <= 0)
        assert all(np.diff(values["recall"]) >= 0)
    assert main(["export", "report", str(run)]) == 0
    report = (run / "report" / "report.md").read_text()
    assert "AP50 by class" in report
    for name in ("precision-recall.png", "confusion.png"):
        assert f"]({name})" in report
        assert (run / "report" / name).is_file()
    assert "../evaluation/best.png" in report
    assert ("../evaluation/worst.png" in report) == (row["metrics"]["F1"] < 1)
    wrong = counts[:, :-1].sum() - np.trace(counts)
    assert sum(one.count for one in kept["errors"]) == wrong
    assert ("Wrong boxes by kind" in report) == (wrong > 0)
    kinds = {one.name for one in kept["errors"]}
    assert ("../evaluation/unlabelled.png" in report) == ("nothing is labelled there" in kinds)

    (run / "evaluation" / "evaluation.json").write_text("{}")
    capsys.readouterr()
    assert main(["export", "report", str(run)]) == 2
    assert "evaluation.json is damaged" in capsys.readouterr().err
