from __future__ import annotations

import json

import pytest
from support.small_tflite import small_tflite
from support.tiny_models import quantized

from effkeras.cli import main
from effkeras.litert.flatbuffer import multiply_adds, operators
from effkeras.litert.rewriting import attach, name_interface
from effkeras.litert.runner import DEFINITION, RECIPE
from export.inspection import inspect


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(small_tflite())
    return path


def run(capsys, *words) -> str:
    assert main(["export", "inspect", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_a_person_reads_what_is_inside(file, capsys):
    said = run(capsys, file)
    for text in (
        "image: int8, 1 x 32 x 32 x 3; scale 0.0078125, zero point -1",
        "tiny-classifier, 10 classes",
        "CONV_2D",
        "integer",
        "(x - 127) / 128",
        "TENSOR_AXIS_LABELS in labels.txt",
        "version 1.0.0",
        "serving_default",
    ):
        assert text in " ".join(said.split())
    path, *lines = said.splitlines()
    assert path == str(file)
    assert max(map(len, lines)) <= 80


def test_json_says_the_same(file, capsys):
    found = json.loads(run(capsys, file, "--json"))
    assert found["bytes"] == len(small_tflite())
    graph = operators(small_tflite())
    assert sum(row["count"] for row in found["operators"]) == len(graph)
    assert sum(row["multiply_adds"] for row in found["operators"]) == sum(map(multiply_adds, graph)) > 0
    assert found["inputs"][0]["dtype"] == "int8"
    assert found["files"] == {"labels.txt": 80}
    assert found["definition"]["name"] == "tiny-classifier"
    assert found["recipe"]["name"] == "int8"
    assert found["metadata"]["outputs"][0]["files"][0]["kind"] == "TENSOR_AXIS_LABELS"
    assert 0 < found["weights"] < found["bytes"]


def test_weights_are_counted_once():
    found = inspect(quantized("efficientdet-lite0", "int8").flatbuffer)
    assert found["weights"] < found["bytes"]
    assert found["metadata"] is None
    assert found["files"] == {}


def test_a_stranger_is_inspected_too(tmp_path, capsys):
    import keras

    from effkeras.litert.convert import to_flatbuffer

    pixels = keras.Input((8, 8, 3))
    path = tmp_path / "theirs.tflite"
    path.write_bytes(to_flatbuffer(keras.Model(pixels, keras.layers.Conv2D(2, 3)(pixels))))
    said = run(capsys, path)
    assert "not exported by effkeras" in said
    assert "labels nor normalisation" in said


def test_texts_of_the_file_do_nothing_to_the_terminal(tmp_path, capsys):
    evil = name_interface(small_tflite(), ["\x1b[2Jimage[bold]"], ["[/nosuch]" + "long" * 100])
    path = tmp_path / "evil.tflite"
    path.write_bytes(evil)
    said = run(capsys, path)
    assert "\x1b" not in said
    assert "image[bold]" in said
    assert "[/nosuch]" in said
    assert "long" * 50 not in said.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"not a model", "not a .tflite file"),
        (small_tflite, "cut short or damaged"),
        (lambda: attach(small_tflite(), DEFINITION, b"\xff\xfe"), "definition in the .tflite is damaged"),
        (lambda: attach(small_tflite(), DEFINITION, b"a=" + b"[" * 100_000), "definition in the .tflite"),
        (lambda: attach(small_tflite(), RECIPE, b"[" * 100_000), "recipe in the .tflite is damaged"),
    ],
)
def test_bad_files_are_one_line_and_code_2(content, message, tmp_path, capsys):
    path = tmp_path / "bad.tflite"
    if content is small_tflite:
        path.write_bytes(small_tflite()[:5000])
    elif content is not None:
        path.write_bytes(content() if callable(content) else content)
    assert main(["export", "inspect", str(path)]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "bad.tflite" in said
    assert "\n" not in said
