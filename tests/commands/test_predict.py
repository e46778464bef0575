"""`effkeras predict` says the same of an image whatever form the model has."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from support.tiny import tiny_detector

from effkeras.building.models import build
from effkeras.cli import main
from effkeras.weights.keras_files import save


def classes(model: object, image: object, capsys, *more: object) -> list[dict]:
    assert main(["predict", str(model), str(image), *map(str, more)]) == 0
    return json.loads(capsys.readouterr().out)["classes"]


@pytest.mark.slow
def test_every_form_of_a_classifier_answers_alike(digit_classes, tmp_path, capsys):
    """A zoo name, a .keras file, a run folder, a .tflite file and a SavedModel."""
    name, named = "efficientnet-digits", ["--weights", "digits"]
    image = next((digit_classes / "test" / "7").iterdir())
    run = tmp_path / "run"
    run.mkdir()
    save(build(name, weights="digits"), run / "model.keras")
    assert main(["export", "tflite", str(run), "--recipe", "float32"]) == 0
    assert main(["export", "savedmodel", str(run)]) == 0
    capsys.readouterr()
    forms = (run, run / "model.keras", run / "artifacts" / "float32.tflite", run / "artifacts" / "savedmodel")
    wanted = classes(name, image, capsys, *named)
    assert wanted[0]["label"] == "7"
    for form in forms:
        got = classes(form, image, capsys)
        assert [one["label"] for one in got] == [one["label"] for one in wanted]
        np.testing.assert_allclose([one["score"] for one in got], [one["score"] for one in wanted], atol=2e-4)


def test_a_definition_answers_with_random_weights(digits, tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(tiny_detector().to_toml())
    image = next((digits / "test" / "images").glob("*.jpg"))
    assert main(["predict", str(tmp_path / "tiny.toml"), str(image), "--min-score", "0"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["detections"]
    assert "random weights" in captured.err


def test_a_folder_is_searched_to_the_bottom(digits, tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(tiny_detector().to_toml())
    image = Image.open(next((digits / "test" / "images").glob("*.jpg")))
    folder = tmp_path / "photos"
    for name in ("a.jpg", "2023/b.gif", "2023/c.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-2])
    (folder / "2023" / "list.txt").touch()
    (folder / "bad.png").write_bytes(b"no image")
    words = ["predict", str(tmp_path / "tiny.toml"), str(folder), "--save", str(folder / "drawn")]
    for _ in range(2):  # its own drawings are not predicted on
        assert main(words) == 0
        captured = capsys.readouterr()
        found = [json.loads(line)["image"] for line in captured.out.splitlines()]
        wanted = ["2023/b.gif", "2023/c.tif", "a.jpg", "cut.jpg"]
        assert found == [str(folder / name) for name in wanted]
        for said in (
            "left out 1 file that is no image (1 .txt)",
            "skipped 1 of 5",
            "1 of 5 images end early",
        ):
            assert captured.err.count(said) == 1


def test_a_folder_without_images_says_what_is_there(tmp_path, capsys):
    (tmp_path / "a.txt").touch()
    assert main(["predict", "efficientnet-digits", str(tmp_path)]) == 2
    assert "holds no images; it has 1 file that is no image (1 .txt)" in capsys.readouterr().err
