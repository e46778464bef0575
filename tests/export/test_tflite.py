from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.tiny_models import SIDE, parts, random_images, tiny_model, tiny_spec, with_last_weights

from effkeras.building.models import build_spec
from effkeras.data.formats.class_folders import write_folder
from effkeras.data.preprocess import network_input
from effkeras.definitions.changes import with_heads
from effkeras.detection.boxes import anchor_boxes
from effkeras.inference.compare import Measured
from effkeras.layers.normalize import spec_of
from effkeras.litert.flatbuffer import interface, operators
from effkeras.litert.metadata.coding import anchors_in
from effkeras.litert.runner import LiteRTModel
from effkeras.support import results
from effkeras.weights.keras_files import save
from export import tflite
from export.consumers.consumer import CONSUMERS
from export.export_report import ExportReport
from export.metadata import Boxes, read
from export.tflite import ExportOptions, export_tflite, main
from quantize.report import Compressed, StepReport

CLASSIFIER = "efficientnet-lite0"
DETECTOR = "efficientdet-lite0"
LABELS = ("0", "1", "2")
NOTES = ("random weights", "are held out")  # what may be said before an error


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    save(tiny_model(CLASSIFIER), folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images labelled with what the model says of them: its top-1 is 1 by construction."""
    root = tmp_path_factory.mktemp("data")
    for split, count, seed in (("train", 24, 1), ("test", 12, 2)):
        shown = random_images(count, seed).astype(np.uint8)
        seen = np.array([network_input(image, tiny_spec(CLASSIFIER).input) for image in shown])
        found = outputs_of_model(tiny_model(CLASSIFIER), seen).argmax(axis=-1)
        labelled = [(LABELS[i], image) for i, image in zip(found, shown, strict=True)]
        write_folder(root, split, LABELS, labelled)
    return root


def test_a_run_is_exported_checked_and_recorded(run, data, capsys):
    assert main([str(run), "--recipe", "int8", "--data", str(data), "--max-drop", "0.5"]) == 0
    said = capsys.readouterr().out
    for word in (
        "top1 float",
        "top1 artifact",
        "drop",
        "bytes",
        "input",
        "output",
        "left in float",
        "XNNPACK",
    ):
        assert word in said
    assert max(map(len, said.splitlines()[:-1])) <= 80
    file = run / "artifacts" / "int8.tflite"
    assert LiteRTModel.open(file).spec.name == CLASSIFIER
    (row,) = results.read(run / "results.jsonl")
    assert (row["kind"], row["recipe"], row["bytes"]) == ("export", "int8", file.stat().st_size)
    assert row["float_metrics"]["top1"] == 1
    assert row["drop"] == row["float_metrics"]["top1"] - row["artifact_metrics"]["top1"]
    assert {"total_ops", "delegated_ops", "partitions", "float_ops", "environment"} <= row.keys()
    beside = json.loads(file.with_suffix(".json").read_text())
    assert beside["recipe"]["name"] == "int8"
    assert beside["report"] == row


@pytest.mark.slow
def test_the_model_is_measured_once_for_all_recipes(run, data, tmp_path, capsys):
    again = tmp_path / "run"
    again.mkdir()
    shutil.copy(run / "model.keras", again)
    said = []
    for recipe in ("float32", "dynamic"):
        assert main([str(again), "--recipe", recipe, "--data", str(data), "--limit", "6"]) == 0
        said.append(capsys.readouterr().err)
    assert ["measured before" in one for one in said] == [False, True]
    first, second = results.read(again / "results.jsonl")
    assert first["float_metrics"] == second["float_metrics"]
    assert first["measured_on"] == second["measured_on"] != ""


def turned(weights: np.ndarray) -> np.ndarray:
    """The weights of the three classes, each in the place of another: most answers are others then."""
    return np.roll(weights, 1, axis=0)


@pytest.fixture
def damaged(monkeypatch):
    """Whatever is quantized confuses the classes; it is converted once, which takes the time."""
    from quantize import attempts, driver
    from quantize.post_training.quantization import quantize_parts

    monkeypatch.setattr(driver, "float_parts", lambda *_: parts(CLASSIFIER, "float32"))

    def quantize(*given):
        made = quantize_parts(*given)
        return dataclasses.replace(made, flatbuffer=with_last_weights(made.flatbuffer, turned))

    monkeypatch.setattr(attempts, "quantize_parts", quantize)


@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    """Two folders, in which the damaged artifact is right on one of val and test, and wrong on the other."""
    model = tiny_model(CLASSIFIER)
    shown = random_images(90, 5).astype(np.uint8)
    seen = np.array([network_input(image, tiny_spec(CLASSIFIER).input) for image in shown])
    features = outputs_of_model(keras.Model(model.input, model.get_layer("logits").input), seen)
    kernel, bias = map(np.asarray, model.get_layer("logits").weights)
    own = (features @ kernel + bias).argmax(axis=-1)
    theirs = (features @ turned(kernel.T).T + bias).argmax(axis=-1)
    right, wrong = np.flatnonzero(own == theirs)[:12], np.flatnonzero(own != theirs)[:12]
    roots = [tmp_path_factory.mktemp(name) for name in ("wrong_in_test", "wrong_in_val")]
    for root, (val, test) in zip(roots, ((right, wrong), (wrong, right)), strict=True):
        for split, chosen in (("train", np.arange(24)), ("val", val), ("test", test)):
            write_folder(root, split, LABELS, [(LABELS[own[i]], shown[i]) for i in chosen])
    return roots


@pytest.mark.usefixtures("damaged")
def test_val_decides_and_test_is_reported(run, unlike, tmp_path, capsys):
    out = tmp_path / "net.tflite"
    words = [str(run), "--recipe", "dynamic", "--max-drop", "0.2", "--out", str(out), "--data"]
    right_in_val, wrong_in_val = map(str, unlike)
    assert main([*words, wrong_in_val, "--force"]) == 1  # a budget stays one
    said = capsys.readouterr().out
    assert re.search(r"failed: val loses (0\.[89]\d*|1\.0000), beyond --max-drop 0\.2\n", said)
    assert not out.exists()
    assert main([*words, right_in_val]) == 0
    said = capsys.readouterr().out
    assert re.search(r"decided on +12 images of val\b", said)
    assert re.search(r"drop on val +0\.[01]", said)
    assert "12 images of test" in said
    row = results.read(run / "results.jsonl")[-1]
    assert (row["split"], row["validated_on"], row["validated_images"]) == ("test", "val", 12)
    assert row["drop"] > 0.8 > 0.2 > row["validated_drop"]
    low, high = row["interval"]
    assert 0.5 < low <= row["drop"] <= high <= 1


@pytest.mark.usefixtures("damaged")
def test_a_file_that_lost_most_of_the_metric_needs_force(run, unlike, tmp_path, capsys):
    out, data = tmp_path / "net.tflite", str(unlike[1])
    out.write_bytes(b"before")
    words = [str(run), "--recipe", "dynamic", "--data", data, "--out", str(out)]
    assert main(words) == 1
    said = capsys.readouterr()
    (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: top1 1\.0000 -> 0\.\d{4} on val \(12 images\): the artifact lost more", error)
    assert "--force" in error
    assert f"nothing was written to {out}" in said.out
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("net.tflite", b"before")]
    row = results.read(run / "results.jsonl")[-1]
    assert (row["passed"], row["ruined"]) == (False, error[7 : error.index(": the artifact")])
    assert main([*words, "--force"]) == 0
    assert "warning: top1 1.0000 -> 0." in capsys.readouterr().err
    assert LiteRTModel.open(out).spec.name == CLASSIFIER


def test_what_steps_lose_counts_too(run, unlike, tmp_path, monkeypatch, capsys):
    """The steps of a recipe ruin the model, and the artifact computes what that one computes."""
    from quantize import driver

    def ruined(model, *_):
        made = build_spec(spec_of(model))
        made.set_weights(model.get_weights())
        last = made.get_layer("logits").kernel
        last.assign(turned(np.asarray(last).T).T)
        return [Compressed(made, StepReport("prune", ()))]

    monkeypatch.setattr(driver, "run_steps", ruined)
    out = tmp_path / "net.tflite"
    words = [str(run), "--recipe", "prune50-float32", "--data", str(unlike[1]), "--out", str(out)]
    assert main(words) == 1
    assert "error: top1 1.0000 -> 0." in capsys.readouterr().err
    assert not out.exists()


def test_too_large_a_drop_tries_remedies_and_leaves_no_file(run, data, tmp_path, capsys):
    out = tmp_path / "net.tflite"
    options = ["--data", str(data), "--max-drop", "-1.5", "--samples", "4", "--out", str(out)]
    assert main([str(run), *options]) == 1
    said = capsys.readouterr().out
    assert "4 calibration images" in said
    assert "16 calibration images" in said
    assert "QAT" in said
    assert "nothing was written" in said
    assert list(tmp_path.iterdir()) == []


def test_when_all_images_are_used_the_remedy_says_so(run, data, tmp_path, capsys):
    options = ["--data", str(data), "--max-drop", "-1.5", "--out", str(tmp_path / "net.tflite")]
    assert main([str(run), *options]) == 1
    assert "are used already" in " ".join(capsys.readouterr().out.split())


def test_without_data_accuracy_is_said_to_be_unknown(run, tmp_path, capsys):
    out = tmp_path / "net.tflite"
    assert main([str(run / "model.keras"), "--recipe", "fp16", "--out", str(out)]) == 0
    assert "not measured: give --data DIR" in capsys.readouterr().out
    assert out.is_file()


def test_models_whose_names_differ_after_a_dot_have_files_of_their_own(monkeypatch, tmp_path):
    from export import tflite

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tflite, "open_model", lambda *_: tiny_model(CLASSIFIER))
    report = export_tflite("mnasnet-a1-0.35", ExportOptions("float32"))
    assert report.file == Path("mnasnet-a1-0.35-float32.tflite")
    assert report.file.is_file()


def test_the_function_gives_the_report(run, data, tmp_path):
    out = tmp_path / "net.tflite"
    report = export_tflite(run, ExportOptions("int8", "uint8", data, limit=5, out=out))
    assert report.passed
    assert report.left_in_float == ()
    assert report.tensors[0] == f"image: uint8, 1 x {SIDE} x {SIDE} x 3"
    assert report.accuracy.images == 5
    assert report.size == out.stat().st_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--recipe", "int7"], "did you mean 'int8'"),
        (["RUN", "--recipe", "int8"], "give --data DIR"),
        (["RUN", "--recipe", "fp16", "--io", "uint8"], "computes activations in float32"),
        (["RUN", "--recipe", "fp16", "--io", "uint9"], "did you mean 'uint8'"),
        (["RUN", "--recipe", "fp16", "--max-drop", "0.1"], "--max-drop needs images"),
        (["RUN", "--recipe", "fp16", "--out", "net.onnx"], "must end in .tflite"),
        (["RUN", "--recipe", "fp16", "--weights", "x.keras"], "has its own weights"),
        (["RUN", "--data", "nosuchdata"], "no such data folder"),
        (["RUN", "--data", "DATA", "--split", "nosuch"], "nosuch"),
        (["RUN", "--data", "DATA", "--samples", "0"], "not above 0"),
        (["nosuchmodel", "--recipe", "fp16"], "there is no model"),
        (["net.tflite", "--recipe", "fp16"], "is an artifact already"),
        (["nosuch.keras", "--recipe", "fp16"], "there is no model"),
        ([], "required: model"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, run, data, capsys):
    names = {"RUN": str(run), "DATA": str(data)}
    assert main([names.get(word, word) for word in arguments]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not any(note in line for note in NOTES)]
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert message in said[0]


@pytest.mark.parametrize("module", ["export.tflite", "export.bench", "export.benchmarks.convert"])
def test_help_loads_nothing_heavy(module):
    code = (
        f"import sys, {module} as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'ai_edge_litert'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: effkeras export" in done.stdout


@pytest.mark.slow
def test_a_zoo_name_is_exported_with_random_weights(tmp_path, capsys):
    out = tmp_path / "b0.tflite"
    assert main(["efficientnet-b0", "--recipe", "dynamic", "--out", str(out)]) == 0
    assert "random weights" in capsys.readouterr().err
    assert out.is_file()


@pytest.mark.slow
def test_more_bits_for_the_worst_layers_are_the_last_remedy(run, data, tmp_path, capsys, monkeypatch):
    """With a metric that sees every error, int8 is never good enough and mixed precision is."""
    from quantize import accuracy, attempts
    from quantize.precision import measurements

    wanted = outputs_of_model(tiny_model(CLASSIFIER), random_images(12, 7))

    def closeness(predictor, data, *, limit=None, title=""):
        error = np.abs(predictor(random_images(12, 7))["probabilities"] - wanted).max()
        return {"top1": 1 - float(error), "top5": 1.0}

    monkeypatch.setattr(measurements, "evaluate", closeness)
    for module in (attempts, accuracy):
        monkeypatch.setattr(module, "measure", lambda *given, **named: Measured(closeness(*given, **named)))
    out = tmp_path / "net.tflite"
    options = ["--data", str(data), "--max-drop", "0.002", "--samples", "8", "--out", str(out)]
    assert main([str(run), *options]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "8 calibration images: drop" in said
    assert "mixed precision, " in said
    assert "chosen on val" in said  # held out of train, as there is none
    assert "why" in said
    report = json.loads(out.with_suffix(".json").read_text())["report"]
    assert report["drop"] <= 0.002
    assert (tmp_path / "net.search" / "mixed.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["w8a16", "int4", "dynamic-int4"])
def test_every_recipe_makes_a_file(recipe, run, data, tmp_path, capsys):
    out = tmp_path / f"{recipe}.tflite"
    assert main([str(run), "--recipe", recipe, "--data", str(data), "--limit", "2", "--out", str(out)]) == 0
    assert LiteRTModel.open(out).spec.name == CLASSIFIER


@pytest.mark.slow
def test_how_ranges_are_found_can_be_said(run, data, tmp_path):
    out = tmp_path / "net.tflite"
    options = ["--ranges", "mse", "--correct-bias", "--equalize", "--samples", "4", "--limit", "2"]
    assert main([str(run), "--data", str(data), *options, "--out", str(out)]) == 0
    out.unlink()
    assert (
        main([str(run), "--data", str(data), "--quantizer", "tensorflow", "--limit", "2", "--out", str(out)])
        == 0
    )
    assert out.is_file()


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "detector"
    folder.mkdir()
    save(tiny_model(DETECTOR), folder / "model.keras")
    return folder


FOUR = ["detection_boxes", "detection_classes", "detection_scores", "num_detections"]
DECODED = ["location", "category", "score", "number of detections"]


@pytest.mark.parametrize(
    ("options", "file", "outputs", "notes"),
    [
        pytest.param(
            ["--for", "mediapipe"], "fp16-mediapipe-float32", DECODED, DECODED, marks=pytest.mark.slow
        ),
        (["--for", "raw"], "fp16", ["box_deltas", "class_logits"], ["location", "score"]),
        pytest.param(
            ["--for", "xnnpack", "--nms", "soft"],
            "fp16-xnnpack-soft",
            FOUR,
            DECODED,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_detector_for_each_consumer(options, file, outputs, notes, detector, capsys):
    assert main([str(detector), "--recipe", "fp16", *options]) == 0
    said = capsys.readouterr().out
    assert f"as fp16 for {options[1]}" in said
    assert "read back" in said
    assert max(map(len, said.splitlines()[:-1])) <= 80
    out = detector / "artifacts" / f"{file}.tflite"
    assert [edge.name for edge in interface(out.read_bytes()).outputs] == outputs
    assert LiteRTModel.open(out).spec == tiny_spec(DETECTOR)
    row = json.loads(out.with_suffix(".json").read_text())["report"]
    assert (row["for"], row["passed"], row["problems"]) == (options[1], True, [])
    assert results.read(detector / "results.jsonl")[-1] == row | {"time": ANY}
    metadata = read(out.read_bytes())
    assert [note.name for note in metadata.outputs] == notes
    assert metadata.outputs[notes.index("location")].content.properties == Boxes((1, 0, 3, 2))
    if "raw" in options:
        wanted = anchor_boxes(tiny_spec(DETECTOR)) / SIDE
        np.testing.assert_allclose(anchors_in(metadata), wanted, atol=1e-6)


def test_labels_for_pycoral_are_numbered(tmp_path):
    spec = tiny_spec(DETECTOR).replace(classes=2, labels=("2 euro", "1 euro"), category_ids=())
    report = ExportReport(tmp_path / "a.tflite", spec, "int8", "uint8", 0, (), (), 0, None, 0, 0)
    assert tflite._with_labels(report, CONSUMERS.get("raw")).label_file is None
    found = tflite._with_labels(report, CONSUMERS.get("coral"))
    assert found.label_file == tmp_path / "a.labels.txt"
    assert found.label_file.read_text() == "0  2 euro\n1  1 euro\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--for", "coral", "--recipe", "fp16"], "coral runs int8 only, not fp16"),
        (["--for", "corral"], "did you mean 'coral'"),
        (
            ["--for", "mediapipe", "--recipe", "fp16", "--nms", "none"],
            "goes with --nms soft, postprocess",
        ),
        (["--for", "mediapipe", "--recipe", "int8", "--io", "int8"], "takes uint8 or float32, not int8"),
    ],
)
def test_what_a_consumer_cannot_take_is_one_line_and_code_2(options, message, detector, capsys):
    assert main([str(detector), *options]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert message in said


def test_a_segmentation_model_is_not_for_mediapipe(tmp_path, capsys):
    spec = with_heads(tiny_spec(DETECTOR), ["segment"])
    save(build_spec(spec), tmp_path / "segments.keras")
    options = ["--recipe", "fp16", "--for", "mediapipe"]
    assert main([str(tmp_path / "segments.keras"), *options]) == 2
    assert "is a segmenter; use --for with one of raw, xnnpack" in capsys.readouterr().err


def test_a_classifier_of_logits_is_not_for_mediapipe(tmp_path, capsys):
    save(build_spec(tiny_spec(CLASSIFIER), activation=None), tmp_path / "logits.keras")
    out = tmp_path / "net.tflite"
    options = ["--recipe", "fp16", "--for", "mediapipe", "--out", str(out)]
    assert main([str(tmp_path / "logits.keras"), *options]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "failed: mediapipe reads probabilities, and the model gives logits (scores)" in said
    assert not out.exists()


def test_what_xnnpack_does_not_run_in_one_piece_is_refused(run, data, tmp_path, capsys):
    out = tmp_path / "net.tflite"
    options = ["--recipe", "w8a16", "--for", "xnnpack", "--data", str(data), "--out", str(out)]
    assert main([str(run), *options]) == 1
    assert "failed: XNNPACK does not run the whole network in one piece" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_layers_are_compared_on_request(run, tmp_path, capsys):
    out = tmp_path / "net.tflite"
    assert main([str(run), "--recipe", "dynamic", "--compare-layers", "--out", str(out)]) == 0
    assert "worst layers" in capsys.readouterr().out
    layers = json.loads(out.with_suffix(".json").read_text())["layers"]
    errors = [one["error"] for one in layers]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[0] < 1
    assert {"layer", "op", "error", "place"} == layers[0].keys()
    assert len({one["place"] for one in layers}) == len(layers)


def test_a_file_with_problems_is_not_written(run, tmp_path, capsys, monkeypatch):
    """The converter is made to lose the last layer's weights."""
    from effkeras.litert.flatbuffer import operators, real_constants
    from effkeras.litert.rewriting import with_constants
    from export import finishing

    def deaf(flatbuffer: bytes, spec, target) -> bytes:
        last = [op for op in operators(flatbuffer) if op.name in ("FULLY_CONNECTED", "CONV_2D")][-1]
        (index,) = found = real_constants(flatbuffer, [last.inputs[1].index])
        return with_constants(flatbuffer, {index: found[index].codes_of(found[index].values * 0)})

    monkeypatch.setattr(finishing, "with_nms", deaf)
    out = tmp_path / "net.tflite"
    assert main([str(run), "--recipe", "float32", "--out", str(out)]) == 1
    said = capsys.readouterr().out
    assert "failed: probabilities is the same for all of 4 images" in said
    assert "nothing was written" in said
    assert list(tmp_path.iterdir()) == []


def test_the_input_absorbs_the_normalisation_exactly(run, data, tmp_path):
    """(pixel - 127) / 128 is what scale 1/128 and zero point 127 make of the pixel as it is."""
    out = tmp_path / "net.tflite"
    export_tflite(run, ExportOptions("int8", data=data, consumer="mediapipe", limit=2, out=out))
    (entry,) = interface(out.read_bytes()).inputs
    assert (entry.dtype, entry.scale, entry.zero_point) == ("uint8", 1 / 128, 127)
    pixels = np.arange(256)
    spec = tiny_spec(CLASSIFIER).input
    np.testing.assert_array_equal(
        (pixels - entry.zero_point) * entry.scale, (pixels - spec.mean[0]) / spec.std[0]
    )
    first, second = operators(out.read_bytes())[:2]
    assert (first.name, second.name) == ("QUANTIZE", "CONV_2D")  # from uint8 to int8 codes, nothing else
