"""The command writes SavedModels that answer as our own predictor does, whoever runs them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage
import tensorflow as tf
from PIL import Image
from support.eager import outputs_of_model
from support.tiny import digits_folder, tiny_classifier, tiny_detector

import effkeras
from effkeras.building.models import build
from effkeras.cli import main as effkeras_main
from effkeras.inference.artifacts.saved_model import SavedModel
from effkeras.inference.predict import predict
from effkeras.inference.predictor import KerasPredictor, open_predictor
from effkeras.support import results
from effkeras.weights.keras_files import load, save
from export.savedmodel.__main__ import main
from export.savedmodel.exporting import SavedModelOptions
from quantize.runs.reading import read_run

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of a classifier, exported once."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    model = build(tiny_classifier())
    save(model, folder / "model.keras")
    (folder / "model.toml").write_text(tiny_classifier().to_toml())
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([str(folder)]) == 0
    (folder / "said.txt").write_text(said.getvalue())
    return folder


@pytest.fixture(scope="module")
def exported(run):
    return run / "artifacts" / "savedmodel"


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def encoded(*images: np.ndarray) -> list[bytes]:
    contents = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "png")
        contents.append(stream.getvalue())
    return contents


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def test_the_report_is_short_and_recorded(run, exported):
    said = (run / "said.txt").read_text()
    for word in (
        "serving_default",
        "uint8, B x h x w x 3",
        "image_bytes: string, B",
        "all_scores",
        "bytes",
        "checked",
    ):
        assert word in said
    assert max(map(len, said.splitlines()[:-1])) <= 80
    rows = results.read(run / "results.jsonl")
    assert (rows[0]["kind"], rows[0]["artifact"], rows[0]["passed"]) == ("savedmodel", "savedmodel", True)
    assert rows[0]["bytes"] == sum(file.stat().st_size for file in exported.rglob("*") if file.is_file())
    assert {"checked_images", "largest_difference", "agreeing_share", "environment"} <= rows[0].keys()


def test_labels_definition_and_instructions_travel_along(exported):
    assert (exported / "assets" / "labels.txt").read_text().splitlines() == [str(i) for i in range(10)]
    assert effkeras.spec(exported / "assets" / "model.toml") == tiny_classifier()
    readme = (exported / "assets" / "README.md").read_text()
    for word in ("encoded_single", "all_scores", "string, B", "32 x 32"):
        assert word in readme
    assert "boxes" not in readme


def test_all_signatures_answer_alike(run, exported, tmp_path):
    saved = SavedModel.open(exported)
    model = load(run)
    image = noise(50, 40)
    wanted = saved.answer("serving_default", image[None])
    (record,) = predict(KerasPredictor.of(model), [write(image, tmp_path / "one.png")], 0.0)
    assert wanted["classes"][0].tolist() == [one["class"] for one in record["classes"]]
    np.testing.assert_allclose(wanted["scores"][0], [one["score"] for one in record["classes"]], atol=1e-4)
    for name, values in saved.answer("single", image).items():
        np.testing.assert_array_equal(values, wanted[name][0])
    both = saved.answer("encoded", encoded(image, noise(9, 99)))
    np.testing.assert_allclose(both["all_scores"][0], wanted["all_scores"][0], atol=1e-6)
    for name, values in saved.answer("encoded_single", encoded(image)[0]).items():
        np.testing.assert_array_equal(values, wanted[name][0])
    pixels = noise(3, 32, 32)
    sized = saved.answer("sized", pixels)["all_scores"]
    np.testing.assert_allclose(sized, outputs_of_model(model, pixels.astype(np.float32)), atol=1e-6)
    np.testing.assert_array_equal(saved(pixels)["probabilities"], sized)


def write(image: np.ndarray, file: Path) -> Path:
    Image.fromarray(image).save(file)
    return file


def test_models_whose_names_differ_after_a_dot_have_folders_of_their_own(monkeypatch):
    from export.savedmodel import exporting

    monkeypatch.setattr(exporting, "open_model", lambda *_: None)
    monkeypatch.setattr(exporting, "_made", lambda _model, out, _options, *, trained: out)
    found = exporting.export_savedmodel("mnasnet-a1-0.35", SavedModelOptions())
    assert found == Path("mnasnet-a1-0.35-savedmodel")


@pytest.mark.slow
def test_a_rerun_replaces_it(run, exported, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(exported, out)
    (out / "saved_model.pb").write_bytes(b"older")
    assert main([str(run), "--out", str(out)]) == 0
    assert files(out) == files(exported)
    assert SavedModel.open(out).spec.name == "tiny-classifier"
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


@pytest.mark.slow
def test_a_result_that_says_nothing_is_not_written(tmp_path, capsys):
    model = build(tiny_classifier())
    model.get_layer("logits").kernel.assign(model.get_layer("logits").kernel * 0)
    save(model, tmp_path / "constant.keras")
    model.get_layer("logits").bias.assign(model.get_layer("logits").bias * np.nan)
    save(model, tmp_path / "nan.keras")
    for name, message in (("constant", "the same for all images"), ("nan", "is not a number")):
        assert main([str(tmp_path / f"{name}.keras"), "--out", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("failed: ")
        assert message in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["constant.keras", "nan.keras"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--out", "FULL"], "is no SavedModel of effkeras"),
        (["RUN", "--out", "MIXED"], "holds notes.txt too"),
        (["RUN", "--out", "FILE"], "is no SavedModel of effkeras"),
        (["RUN", "--out", "FILE/below"], "cannot create the folder"),
        (["RUN", "--min-score", "nan"], "--min-score"),
        (["RUN", "--data", "nosuchdata"], "no such data folder"),
        (["RUN", "--weights", "x.keras"], "has its own weights"),
        (["SAVED"], "is an artifact already"),
        (["nosuchmodel"], "there is no model"),
        ([], "required: model"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, run, exported, tmp_path, capsys):
    shutil.copytree(exported, tmp_path / "mixed")
    (tmp_path / "mixed" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    places = {
        "RUN": run,
        "SAVED": exported,
        "FULL": run,
        "MIXED": tmp_path / "mixed",
        "FILE": tmp_path / "file",
    }
    before = files(tmp_path)
    words = [str(tmp_path / word.replace("FILE", "file")) if "/" in word else word for word in arguments]
    assert main([str(places.get(word, word)) for word in words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("error: ")]) == 1
    assert message in said[-1]
    assert files(tmp_path) == before


@pytest.mark.slow
def test_eval_and_predict_take_the_folder(run, exported, digit_classes, capsys):
    image = next((digit_classes / "test" / "3").iterdir())
    answers = []
    for model in (run, exported):
        assert effkeras_main(["predict", str(model), str(image)]) == 0
        answers.append(json.loads(capsys.readouterr().out))
        assert effkeras_main(["eval", str(model), "--data", str(digit_classes)]) == 0
        assert "top1" in capsys.readouterr().out
    assert answers[0] == answers[1]
    rows = [row for row in results.read(run / "results.jsonl") if row["kind"] == "eval"]
    assert [row["artifact"] for row in rows] == ["model.keras", "savedmodel"]
    assert rows[0]["metrics"] == rows[1]["metrics"]
    (reported,) = (one for one in read_run(run, samples=0).artifacts if one.name == "savedmodel")
    assert reported.size == sum(file.stat().st_size for file in exported.rglob("*") if file.is_file())
    assert reported.drop == 0


@pytest.mark.parametrize("damage", ["graph", "weights", "definition", "foreign", "weights asked for"])
def test_damaged_and_foreign_folders_are_refused(damage, exported, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    more: list[str] = []
    if damage == "graph":
        (copy / "saved_model.pb").write_bytes((copy / "saved_model.pb").read_bytes()[:5000])
    elif damage == "weights":
        for file in (copy / "variables").glob("*.data*"):
            file.write_bytes(file.read_bytes()[:100])
    elif damage == "definition":
        (copy / "assets" / "model.toml").write_text("schema = [")
    elif damage == "foreign":
        shutil.rmtree(copy / "assets")
    else:
        more = ["--weights", "digits"]
    assert effkeras_main(["predict", str(copy), str(PHOTOGRAPHS / "chelsea.png"), *more]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert str(copy) in said[0]


def test_help_loads_nothing_heavy():
    code = (
        "import sys, export.savedmodel.__main__ as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'av', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: effkeras export savedmodel" in done.stdout


@pytest.mark.slow
def test_boxes_and_masks_of_a_batch_of_different_images(tmp_path):
    model = build(tiny_detector(), heads=["detect", "segment"])
    save(model, tmp_path / "model.keras")
    assert main([str(tmp_path / "model.keras"), "--out", str(tmp_path / "saved")]) == 0
    images = [noise(50, 80), noise(64, 64), noise(20, 30)]
    saved = SavedModel.open(tmp_path / "saved")
    together = saved.answer("encoded", encoded(*images))
    np.testing.assert_array_equal(together["sizes"], [image.shape[:2] for image in images])
    assert together["masks"].shape == (3, 64, 80)
    for position, image in enumerate(images):
        alone = saved.answer("single", image)
        height, width = image.shape[:2]
        mask = together["masks"][position]
        assert (mask[:height, :width] == alone["masks"]).mean() > 0.999
        assert (mask[height:] == 255).all()
        assert (mask[:, width:] == 255).all()
        np.testing.assert_allclose(together["scores"][position], alone["scores"], atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("efficientdet-digits", marks=pytest.mark.slow),
        pytest.param("efficientnet-digits", marks=pytest.mark.nightly("zoo")),
    ],
)
def test_photographs_and_digits_are_answered_as_by_our_predictor(name, tmp_path):
    """Run where effkeras and Keras cannot be imported."""
    shown = digits_folder(tmp_path / "data", size=160, test=6) / "test" / "images"
    images = [*sorted(shown.glob("*.jpg")), *(PHOTOGRAPHS / one for one in ("astronaut.png", "rocket.jpg"))]
    assert main([name, "--weights", "digits", "--out", str(tmp_path / "saved"), "--min-score", "0.1"]) == 0
    shutil.move(tmp_path / "saved", tmp_path / "elsewhere")
    answers = answers_of_another_process(tmp_path / "elsewhere", images)
    predictor = open_predictor(name, "digits")
    wanted = list(predict(predictor, images, 0.1))
    assert len(answers) == len(wanted)
    for got, record in zip(answers, wanted, strict=True):
        assert got["labels"] == [one["label"] for one in entries(record)]
        np.testing.assert_allclose(got["scores"], [one["score"] for one in entries(record)], atol=2e-4)
        if "detections" in record and entries(record):
            np.testing.assert_allclose(got["boxes"], [one["box"] for one in entries(record)], atol=0.06)
    if predictor.spec.detects:
        assert sum(len(entries(record)) for record in wanted[:6]) >= 6


def entries(record: dict) -> list[dict]:
    return record.get("detections", record.get("classes"))


ALONE = """
import json, sys
from pathlib import Path
for name in ("effkeras", "export", "quantize", "keras"):
    sys.modules[name] = None  # not to be imported, though it is installed
import tensorflow as tf
answer = tf.saved_model.load(sys.argv[1]).signatures["encoded_single"]
for file in sys.argv[2:]:
    found = answer(image_bytes=tf.constant(Path(file).read_bytes()))
    count = int(found["count"]) if "count" in found else 5
    lines = {name: found[name].numpy()[:count].tolist() for name in found if name in ("boxes", "scores")}
    print(json.dumps({**lines, "labels": [one.decode() for one in found["labels"].numpy()[:count]]}))
"""


def answers_of_another_process(folder: Path, images: list[Path]) -> list[dict]:
    command = [sys.executable, "-I", "-c", ALONE, str(folder), *map(str, images)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_full_disk_leaves_the_older_one(run, exported, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    shutil.copytree(exported, out)

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    assert main([str(run), "--out", str(out)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert SavedModel.open(out).spec.name == "tiny-classifier"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
