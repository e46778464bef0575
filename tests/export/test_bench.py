from __future__ import annotations

import pytest
from tiny_models import quantized

from effkeras import results
from export.bench import BenchOptions, bench, main

NAME = "efficientdet-lite0"


@pytest.fixture
def artifact(tmp_path):
    file = tmp_path / "run" / "artifacts" / "int8.tflite"
    file.parent.mkdir(parents=True)
    (tmp_path / "run" / "model.keras").touch()
    file.write_bytes(quantized(NAME, "int8", "int8").flatbuffer)
    return file


def test_a_run_keeps_its_latencies(artifact, capsys):
    assert main([str(artifact), "--runs", "3", "--warmup", "0"]) == 0
    said = capsys.readouterr().out
    assert "XNNPACK" in said
    assert "ai-edge-litert" in said
    assert max(map(len, said.splitlines())) <= 80
    rows = results.read(artifact.parent.parent / "results.jsonl")
    settings = {(row["kernels"], row["threads"]) for row in rows}
    assert settings == {("XNNPACK", 1), ("XNNPACK", 2), ("plain", 1), ("plain", 2)}
    assert {row["kind"] for row in rows} == {"latency"}
    assert {row["model"] for row in rows} == {NAME}
    assert all("environment" in row and row["total_ops"] > 0 for row in rows)


def test_rows_go_where_they_are_told(artifact, tmp_path):
    out = tmp_path / "all.jsonl"
    timed = bench([artifact], BenchOptions((1,), runs=2, warmup=0, out=out))
    assert len(timed) == len(results.read(out)) == 2
    assert not (artifact.parent.parent / "results.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch.tflite"], "nosuch.tflite"),
        (["CORRUPT"], "not a .tflite file"),
        (["CORRUPT", "--threads", "0"], "not above 0"),
        (["CORRUPT", "--threads", "two"], "--threads"),
        ([], "F.tflite"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, tmp_path, capsys):
    corrupt = tmp_path / "corrupt.tflite"
    corrupt.write_bytes(b"not a model")
    assert main([str(corrupt) if word == "CORRUPT" else word for word in arguments]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert message in said[0]
