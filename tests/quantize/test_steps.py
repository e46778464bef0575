"""Steps of recipes: each is one module, and one more is one file."""

from __future__ import annotations

import importlib.util
import json
import sys

import keras
import numpy as np
import pytest
from support.pages import complete_file
from support.tiny import tiny_classifier

from effkeras import EffkerasError
from effkeras.building.models import build_spec
from effkeras.weights.keras_files import save
from quantize import recipes
from quantize.command import main
from quantize.steps.step import STEPS, steps_in_order

FILE = complete_file("step.md")


@pytest.fixture
def round_step(tmp_path, monkeypatch):
    """A step from a file of its own, known for one test."""
    monkeypatch.setattr(STEPS, "_entries", dict(STEPS.entries()))
    file = tmp_path / "round_step.py"
    file.write_text(FILE)
    found = importlib.util.spec_from_file_location("round_step", file)
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "round_step", module)
    found.loader.exec_module(module)


@pytest.mark.slow
@pytest.mark.usefixtures("round_step")
def test_one_file_adds_a_step(digit_classes, tmp_path, capsys):
    keras.utils.set_random_seed(1)
    save(build_spec(tiny_classifier()), tmp_path / "tiny.keras")
    out = tmp_path / "work"
    words = [str(tmp_path / "tiny.keras"), "--recipe", "round3-float32", "--data", str(digit_classes)]
    assert main([*words, "--epochs", "1", "--force", "--out", str(out)]) == 0
    kernel = np.asarray(keras.saving.load_model(out / "model.keras").get_layer("head_conv").kernel)
    np.testing.assert_array_equal(kernel * 8, np.rint(kernel * 8))
    reports = json.loads((out / "report.json").read_text())["steps"]
    assert [report["step"] for report in reports] == ["round", "ptq"]
    assert (out / "artifacts" / "round3-float32.tflite").is_file()
    assert main([*words, "--epochs", "1", "--force", "--out", str(out)]) == 0
    assert "step 1-round: done before" in capsys.readouterr().err


@pytest.mark.usefixtures("round_step")
def test_its_words_and_options_are_those_of_any_step(tmp_path, capsys):
    assert [step.name for step in recipes.find("qat-round5-prune50-int8").in_order()] == [
        "prune",
        "round",
        "qat",
    ]
    with pytest.raises(EffkerasError, match="round needs a digit"):
        recipes.find("round0")
    file = tmp_path / "mine.toml"
    file.write_text("[round]\ndigit = 3\n")
    with pytest.raises(EffkerasError, match=r"unknown key 'digit'; did you mean 'digits'\?"):
        recipes.find(file)
    file.write_text("[round]\ndigits = 3\n")
    assert recipes.find(file).to_table()["round"] == {"digits": 3}
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "roundN" in capsys.readouterr().out


def test_steps_have_an_order_and_words_of_their_own():
    assert list(steps_in_order()) == ["friendly", "channels", "prune", "cluster", "distill", "qat"]
    names = [word.name for step in steps_in_order().values() for word in step.words]
    assert len(set(names)) == len(names)
