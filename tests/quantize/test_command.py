"""`python -m quantize`: bad input is one line and exit code 2; a run is found where it should be."""

from __future__ import annotations

import keras
import pytest
from support.tiny import tiny_classifier

from effkeras.building.models import build_spec
from effkeras.weights.keras_files import save
from quantize.command import main, settings_of, work_folder


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("run") / "model.keras"
    save(build_spec(tiny_classifier()), file)
    file.with_name("data.toml").write_text('data = "/home/me/numbers"\n[splits.train]\nimages = 2000\n')
    return file


def test_it_prints_what_was_lost_and_where_the_artifact_is(tiny_file, digit_classes, tmp_path, capsys):
    out = tmp_path / "out"
    run, data = tiny_file.parent, str(digit_classes)
    assert main([str(run), "--recipe", "int8", "--data", data, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "top1 before" in printed
    assert "drop" in printed
    assert printed.endswith(f"{out}: written, with artifacts/int8.tflite and artifacts/int8.md\n")
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert (out / "artifacts" / "int8.tflite").is_file()
    card = (out / "artifacts" / "int8.md").read_text()
    for said in (
        "calibrated on",
        "numbers (2,000 images of train)",
        "images of test",
        "| top1 of 3 |",
        "| top5 |",
    ):
        assert said in card


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "prun50-int8"], "there is no word 'prun50'"),
        (["--recipe", "missing.toml"], "cannot read missing.toml"),
        (["--recipe", "fp16", "--io", "int8"], "cannot be int8"),
        (["--recipe", "int8", "--samples", "0"], "0 is not above 0"),
        (["--recipe", "friendly-int8", "--backend", "tfmot"], "has no step friendly"),
        (["--recipe", "distill-prune50", "--backend", "tfmot"], "trains without a teacher"),
        ([], "the following arguments are required: --recipe"),
    ],
)
def test_bad_input_is_one_line(words, message, tiny_file, digit_classes, capsys, tmp_path):
    given = [str(tiny_file), *words, "--data", str(digit_classes), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_budget_that_is_not_kept_leaves_the_artifact_before(tiny_file, digit_classes, tmp_path, capsys):
    out = tmp_path / "out"
    words = [str(tiny_file), "--recipe", "int8", "--io", "uint8", "--data", str(digit_classes)]
    assert main([*words, "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith("with artifacts/int8-uint8.tflite and artifacts/int8-uint8.md\n")
    assert main([*words, "--out", str(out), "--max-drop", "-1"]) == 1
    said = f"no artifact was written, and {out}/artifacts/int8-uint8.tflite is an earlier one"
    assert said in capsys.readouterr().out


def test_a_model_of_others_is_taken(digit_classes, tmp_path):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(image)
    chances = keras.layers.Dense(10, "sigmoid")(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(image, chances).save(tmp_path / "own.keras")
    words = [str(tmp_path / "own.keras"), "--recipe", "int8", "--data", str(digit_classes)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "artifacts" / "int8.tflite").is_file()


def test_a_folder_without_images_to_judge_by_is_refused(tiny_file, tmp_path, capsys):
    (tmp_path / "data" / "train").mkdir(parents=True)
    assert main([str(tiny_file), "--recipe", "int8", "--data", str(tmp_path / "data")]) == 2
    assert "has neither a split val nor a split test" in capsys.readouterr().err


def test_settings_are_those_of_the_training():
    assert not settings_of("efficientdet-digits", None).augment["flip"]
    assert settings_of("b0", None).augment["flip"]


def test_work_goes_into_the_run(tmp_path):
    (tmp_path / "model.keras").touch()
    assert work_folder(str(tmp_path), "int8") == tmp_path / "compressed" / "int8"
    assert work_folder("some/b0.toml", "int8").name == "b0-int8"
    assert work_folder("mnasnet-a1-0.35", "int8").name == "mnasnet-a1-0.35-int8"


def test_config_is_read_as_training_reads_it(tmp_path):
    """A recipe by its name, and what a file states for some models."""
    file = tmp_path / "mine.toml"
    file.write_text('seed = 3\n[only."efficientnet-digits*"]\nseed = 5\n')
    given = [settings_of(model, str(file)).seed for model in ("efficientnet-digits", "b0", "gone.keras")]
    assert given == [5, 3, 3]
    assert settings_of("efficientnet-b0", "paper").optimizer == "rmsprop"
