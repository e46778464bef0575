"""The folder of a page: what it holds, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image
from support.signals import heed_signals
from support.small_tflite import small_tflite
from support.web_page import fake_runtime

from effkeras.cli import main
from effkeras.definitions import zoo
from effkeras.detection.boxes import anchor_boxes
from effkeras.inference.threshold import ENTRY, Threshold
from effkeras.litert.rewriting import attach
from effkeras.litert.runner import DEFINITION, OUTPUTS, definition_of
from effkeras.support.errors import EffkerasError
from export.web.page import described, write_page
from export.web.runtime import find_runtime, pinned


@pytest.fixture
def runtime(tmp_path):
    return find_runtime(fake_runtime(tmp_path / "litert"))


@pytest.fixture
def image(tmp_path):
    file = tmp_path / "an image.PNG"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file)
    return file


def as_detector(**changes) -> bytes:
    """A file that says it is a detector; its outputs are a classifier's."""
    spec = zoo.spec("efficientdet-digits").replace(**changes)
    return attach(small_tflite("float32"), DEFINITION, spec.to_toml().encode())


def test_a_page_holds_model_runtime_samples_and_what_it_needs_to_know(tmp_path, runtime, image):
    file = small_tflite("float32")
    write_page(file, tmp_path / "page", runtime, [image])
    about = json.loads((tmp_path / "page" / "model.json").read_text())
    spec = definition_of(file)
    assert (about["name"], about["kind"], about["recipe"]) == (spec.name, "classifier", "int8")
    assert (about["input"]["size"], about["input"]["dtype"]) == ([*spec.input.size], "float32")
    assert about["labels"] == list(spec.labels)
    assert [one["holds"] for one in about["outputs"]] == ["probabilities"]
    assert about["samples"] == ["samples/1.png"]
    assert (tmp_path / "page" / "model.tflite").read_bytes() == file
    names = {path.name for path in (tmp_path / "page" / "litert" / "wasm").iterdir()}
    assert names == {name.split("/")[-1] for name in pinned().files[1:]}
    assert pinned().version in (tmp_path / "page" / "litert" / "NOTICE.txt").read_text()
    assert f"<title>{spec.name}</title>" in (tmp_path / "page" / "index.html").read_text()


def test_a_detector_brings_its_anchors_suppression_and_threshold():
    kept = Threshold(0.4, 0.8, "val", 87)
    about, anchors = described(attach(as_detector(), ENTRY, kept.to_bytes()))
    spec = zoo.spec("efficientdet-digits")
    assert about["kind"] == "detector"
    np.testing.assert_array_equal(np.frombuffer(anchors, "<f4").reshape(-1, 4), anchor_boxes(spec))
    assert about["nms"]["method"] == spec.nms.method
    assert (about["min_score"], about["threshold"]["images"]) == (0.4, 87)
    assert described(as_detector())[0]["min_score"] == 0.3


def test_suppression_in_the_graph_needs_no_anchors():
    held = {"detection_boxes": "probabilities"}
    about, anchors = described(attach(as_detector(), OUTPUTS, json.dumps(held).encode()))
    assert anchors == b""
    assert "anchors" not in about
    assert about["outputs"][0] == {
        "name": "probabilities",
        "holds": "detection_boxes",
        "scale": None,
        "zero_point": 0,
    }


def test_what_no_page_can_run_is_refused():
    with pytest.raises(EffkerasError, match=r"int8, and LiteRT.js takes float32 or uint8.*--io float32"):
        described(small_tflite())
    with pytest.raises(EffkerasError, match="masks only"):
        described(as_detector(heads=("segment",)))


def test_other_files_are_not_replaced_and_a_page_is(tmp_path, runtime, image):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(EffkerasError, match="holds other files"):
        write_page(small_tflite("float32"), tmp_path / "mine", runtime)
    write_page(small_tflite("float32"), tmp_path / "page", runtime, [image])
    write_page(small_tflite("float32"), tmp_path / "page", runtime)
    assert not (tmp_path / "page" / "samples").exists()
    with pytest.raises(EffkerasError, match="no image file"):
        write_page(small_tflite("float32"), tmp_path / "page", runtime, [tmp_path / "none.jpg"])
    assert (tmp_path / "page" / "index.html").is_file()


def test_the_command_makes_a_page_of_a_file(tmp_path, image, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.tflite").write_bytes(small_tflite("float32"))
    given = ["--runtime", str(fake_runtime(tmp_path / "litert")), "--examples", str(image)]
    assert main(["export", "web", "cells.tflite", *given]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("cells-web: written")
    assert "next: effkeras export web cells-web --serve" in said.err
    assert main(["export", "web", "cells-web"]) == 2
    assert "--serve serves it" in capsys.readouterr().err
    assert main(["export", "web", "cells.tflite", "--recipe", "int8", *given]) == 2
    assert "--recipe goes with a model" in capsys.readouterr().err


def test_a_page_is_served_until_it_is_interrupted(tmp_path, runtime):
    write_page(small_tflite("float32"), tmp_path / "page", runtime)
    command = [sys.executable, "-m", "export.web", str(tmp_path / "page"), "--serve", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, preexec_fn=heed_signals, **pipes) as process:
        try:
            address = process.stdout.readline().split()[0]
            with urllib.request.urlopen(f"{address}model.json") as answer:
                assert json.load(answer)["file"] == "model.tflite"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            assert process.stderr.read() == "stopped\n"
        finally:
            process.kill()


@pytest.mark.slow
def test_the_command_exports_a_model_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["--runtime", str(fake_runtime(tmp_path / "litert")), "--weights", "digits"]
    assert main(["export", "web", "efficientnet-digits", *given]) == 0
    about = json.loads((tmp_path / "efficientnet-digits-web" / "model.json").read_text())
    assert (about["recipe"], about["classes"]) == ("float32", 10)
    assert [path.name for path in tmp_path.glob("*.tflite")] == []
