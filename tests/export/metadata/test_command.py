from __future__ import annotations

import pytest
from ai_edge_litert.tools import flatbuffer_utils
from support.small_tflite import small_tflite

from effkeras.cli import main
from effkeras.litert.runner import definition_of
from export import metadata


@pytest.fixture
def files(tmp_path):
    """An exported file, and what edgetpu_compiler would leave of it."""
    parsed = flatbuffer_utils.read_model_from_bytearray(small_tflite())
    parsed.metadata = []
    (tmp_path / "net.tflite").write_bytes(small_tflite())
    (tmp_path / "compiled.tflite").write_bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))
    return tmp_path


def test_metadata_is_put_back_in_place(files, capsys):
    compiled = files / "compiled.tflite"
    assert main(["export", "metadata", str(compiled), "--from", str(files / "net.tflite")]) == 0
    assert metadata.read(compiled.read_bytes()) == metadata.read(small_tflite())
    assert definition_of(compiled.read_bytes()) == definition_of(small_tflite())
    assert "compiled.tflite: written" in capsys.readouterr().out


def test_labels_are_replaced_in_another_file(files):
    labels, out = files / "labels.txt", files / "named.tflite"
    labels.write_text("".join(f"name {index}\n" for index in range(10)))
    words = [str(files / "net.tflite"), "--labels", str(labels), "--out", str(out)]
    assert main(["export", "metadata", *words]) == 0
    assert metadata.read(out.read_bytes()).files["labels.txt"] == labels.read_bytes()
    assert (files / "net.tflite").read_bytes() == small_tflite()


def test_labels_and_a_calibration_at_once(files, capsys):
    labels, csv, out = files / "labels.txt", files / "c.csv", files / "named.tflite"
    labels.write_text("".join(f"name {index}\n" for index in range(10)))
    csv.write_text("1,4,-2\n" * 9 + "\n")
    words = ["--labels", str(labels), "--calibration", str(csv), "--score-transformation", "log"]
    words += ["--default-score", "0.25", "--out", str(out)]
    assert main(["export", "metadata", str(files / "net.tflite"), *words]) == 0
    assert "9 of 10 classes are calibrated" in capsys.readouterr().err
    (note,) = metadata.read(out.read_bytes()).outputs
    assert note.units == (metadata.ScoreCalibration("LOG", 0.25),)
    assert [file.name for file in note.files] == ["labels.txt", "score_calibration.csv"]
    assert definition_of(out.read_bytes()).labels[9] == "name 9"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "two.txt"], "2 labels for 10 classes"),
        (["--labels", "nosuch.txt"], "cannot read"),
        (["--from", "two.txt"], "not a .tflite"),
        (["--from", "net.tflite", "--out", "net.bin"], "must end in .tflite"),
        ([], "give either --from"),
        (["--from", "net.tflite", "--labels", "two.txt"], "give either --from"),
        (["--calibration", "two.txt"], "two.txt: 2 lines for 10 classes"),
        (["--from", "net.tflite", "--default-score", "1"], "go with --calibration"),
        (["--calibration", "two.txt", "--default-score", "nan"], "is no score"),
        (["--calibration", "two.txt", "--score-transformation", "exp"], "invalid choice: 'exp'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(words, message, files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    (files / "two.txt").write_text("a\nb\n")
    before = {path: path.read_bytes() for path in files.iterdir()}
    assert main(["export", "metadata", "net.tflite", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
    assert {path: path.read_bytes() for path in files.iterdir()} == before
