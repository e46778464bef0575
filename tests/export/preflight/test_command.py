from __future__ import annotations

import json

import pytest
from support.handmade import Op, flatbuffer
from support.op_cases import concatenation, conv, image, reduction, unary
from support.tiny_models import quantized

from effkeras import cli
from export.preflight.__main__ import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    first = unary("TANH", image(1, 256, 128, 4))
    mean = reduction("MEAN", [1, 2], 1, 256, 128, 4)
    mean.inputs[0] = first.outputs[0]
    contents = {
        "good": flatbuffer(conv()),
        "doubtful": flatbuffer(concatenation(image(1, 1024, 1024, 2), image(1, 1024, 1024, 3))),
        "mean": flatbuffer(first, mean, unary("RELU", mean.outputs[0])),
        "d0": quantized("efficientdet-d0", "int8").flatbuffer,
    }
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return folder


def said(capsys) -> str:
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())


def test_a_file_that_passes(files, capsys):
    assert main([str(files / "good.tflite"), "--no-compiler"]) == 0
    text = said(capsys)
    assert "the Edge TPU runs all of it" in text
    assert "contains all operators" in text
    assert "CONV_2D 1 maps" in text


def test_a_file_that_does_not_pass(files, capsys):
    assert main([str(files / "mean.tflite"), "--no-compiler"]) == 1
    text = said(capsys)
    assert "does not run all of it" in text
    assert "ends at operator 1, MEAN" in text
    assert "reduces 32,768 positions" in text
    assert "edgetpu#461" in text
    assert "squeeze-and-excitation" in text
    assert "after the partition" in text


def test_doubts_pass_and_are_told(files, capsys):
    assert main([str(files / "doubtful.tflite"), "--no-compiler"]) == 0
    text = said(capsys)
    assert "1 operators may not map" in text
    assert "may not map: holds 10.5 MB" in text


def test_every_operator_in_order(files, capsys):
    assert main([str(files / "d0.tflite"), "--no-compiler", "--ops"]) == 1
    text = said(capsys)
    assert "normalize does not map: takes float32" in text
    assert text.count("CONV_2D") > 60


def test_json_gives_every_operator_and_its_sources(files, capsys):
    assert main([str(files / "mean.tflite"), "--no-compiler", "--json"]) == 1
    row = json.loads(capsys.readouterr().out)
    assert (row["passed"], row["operators"], row["on_device"], row["partitions"]) == (False, 3, 1, 2)
    assert row["ops"][1]["sources"] == ["https://github.com/google-coral/edgetpu/issues/461"]
    last = {"index": 2, "op": "RELU", "layer": "t", "status": "after the partition", "macs": 0}
    assert row["ops"][2] == last


def test_the_verb_and_the_gpu(files, capsys):
    assert cli.main(["export", "preflight", str(files / "d0.tflite"), "--for", "gpu"]) == 0
    text = said(capsys)
    assert "the GPU runs all of it" in text


@pytest.mark.parametrize("more", [[], ["--ops"]])
def test_a_custom_operator_of_any_name_is_printed(more, tmp_path, capsys):
    evil = Op("edgetpu[/x]\x1b[2J", [image(1, 8, 8, 4)], [image(1, 8, 8, 4)])
    (tmp_path / "evil.tflite").write_bytes(flatbuffer(evil))
    assert main([str(tmp_path / "evil.tflite"), "--no-compiler", *more]) == 1
    text = said(capsys)
    assert "edgetpu[/x]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch.tflite"], "cannot read"),
        (["good.tflite", "--for", "edgetpus"], "did you mean 'edgetpu'"),
        (["good.tflite", "--analyzer"], "--for gpu"),
        (["good.tflite", "--for", "gpu", "--compile", "x.tflite"], "--for edgetpu"),
        (["good.tflite", "--compile", "x.onnx"], "must end in .tflite"),
        (["good.tflite", "--timeout", "0"], "not above 0"),
        (["text.tflite"], "text.tflite: not a .tflite file"),
        ([], "required"),
    ],
)
def test_bad_input_is_one_line(files, words, message, capsys):
    (files / "text.tflite").write_text("no flatbuffer at all")
    words = [str(files / word) if word.endswith(".tflite") and word[0] != "x" else word for word in words]
    assert main([*words, "--no-compiler"] if words else words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
