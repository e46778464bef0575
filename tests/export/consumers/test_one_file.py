"""One file adds a consumer: its wishes, its help, its errors and what is done for it."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from support.pages import complete_file
from support.tiny_models import tiny_model

from effkeras.litert.flatbuffer import interface
from effkeras.litert.rewriting import attached
from effkeras.weights.keras_files import save
from export.consumers.consumer import CONSUMERS
from export.metadata import read
from export.tflite import main

DETECTOR = "efficientdet-lite0"

FILE = complete_file("consumer.md")


@pytest.fixture(autouse=True)
def kiosk(tmp_path, monkeypatch):
    """A consumer from a file of its own, known for one test."""
    monkeypatch.setattr(CONSUMERS, "_entries", dict(CONSUMERS.entries()))
    file = tmp_path / "kiosk.py"
    file.write_text(FILE)
    found = importlib.util.spec_from_file_location("kiosk", file)
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "kiosk", module)
    found.loader.exec_module(module)


@pytest.mark.slow
def test_a_detector_is_exported_for_it(tmp_path, capsys):
    model, out = tmp_path / "detector.keras", tmp_path / "net.tflite"
    save(tiny_model(DETECTOR), model)
    words = [str(model), "--for", "kiosk", "--out", str(out), "--recipe"]
    assert main([*words, "float32"]) == 1
    assert "failed: a kiosk takes no file of 9" in capsys.readouterr().out
    assert not out.exists()
    assert main([*words, "dynamic"]) == 0
    assert "as dynamic for kiosk" in capsys.readouterr().out
    assert [one.name for one in interface(out.read_bytes()).outputs] == [
        "where",
        "how_sure",
        "what",
        "how_many",
    ]
    assert attached(out.read_bytes(), "kiosk") == b"seen"
    assert read(out.read_bytes()) is None


def test_help_and_errors_know_it(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "screens in museums" in capsys.readouterr().out
    for words, message in (
        (["--for", "kiosc"], "there is no consumer 'kiosc'; did you mean 'kiosk'?"),
        (["--for", "kiosk", "--recipe", "int8"], "--for kiosk runs dynamic or float32 only, not int8"),
        (["--for", "kiosk", "--recipe", "dynamic", "--nms", "soft"], "goes with --nms hard, not soft"),
    ):
        assert main([str(tmp_path / "net.keras"), *words]) == 2
        assert message in capsys.readouterr().err
