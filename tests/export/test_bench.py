from __future__ import annotations

import os
import re

import pytest
from support.fake_adb import FakePhones, benchmark
from support.pages import text_of
from support.tiny_models import quantized

from effkeras.support import results
from effkeras.support.measurements import WHOLE_NETWORK, read_blocks
from export.bench import BenchOptions, bench, main
from export.delegates.delegate import known_names

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


def test_rows_tell_distribution_share_memory_and_versions(artifact, tmp_path):
    out = tmp_path / "all.jsonl"
    bench([artifact], BenchOptions((1,), runs=2, warmup=0, out=out, delegates=("xnnpack", "compiled-cpu")))
    row, other = results.read(out)
    for one in (row, other):
        assert 0 < one["min_ms"] <= one["median_ms"] <= one["p95_ms"]
        assert one["peak_bytes"] > 0
        assert one["environment"]["versions"]["ai-edge-litert"]
    assert (row["delegated_ops"], row["partitions"]) == (row["total_ops"], 1)
    assert [one["kind"] for one in (row, other)] == ["latency", "latency"]
    assert [one["delegate"] for one in (row, other)] == ["xnnpack", "compiled-cpu"]


def test_what_is_absent_is_reported_with_how_to_get_it(artifact, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("export.delegates.host.edgetpu.LIBRARIES", {})
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = [str(artifact), "--runs", "2", "--warmup", "0", "--threads", "1"]
    assert main([*arguments, "--delegate", "plain,edgetpu", "--adb"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    told = " ".join(said.split())
    assert "edgetpu" in told
    assert "libedgetpu1-std" in told
    assert "adb is not installed" in told
    assert main([*arguments, "--delegate", "edgetpu"]) == 1


def test_a_phone_is_timed_beside_this_machine(artifact, tmp_path, monkeypatch, capsys):
    phones = FakePhones(tmp_path / "phones")
    monkeypatch.setenv("PATH", str(phones.home / "path"), prepend=os.pathsep)
    logs = {"gpu": "2.18-gpu", "nnapi": "refused", "other": "2.17-xnnpack-profile"}
    binary, out = benchmark(tmp_path / "benchmark_model", **logs), tmp_path / "all.jsonl"
    arguments = [str(artifact), "--runs", "5", "--warmup", "0", "--threads", "1", "--delegate", "plain"]
    assert main([*arguments, "--benchmark-binary", str(binary), "--adb", "14151FDF6", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "takes no operator" in " ".join(said.split())
    rows = results.read(out)
    assert [row["kernels"] for row in rows] == ["plain", "phone XNNPACK", "phone GPU"]
    assert rows[2]["phone"]["model"] == "Pixel 6"


def test_the_blocks_of_a_network_are_timed_with_it(artifact, tmp_path):
    table = tmp_path / "blocks.toml"
    arguments = [str(artifact), "--runs", "2", "--warmup", "0", "--threads", "1", "--delegate", "xnnpack"]
    assert main([*arguments, "--blocks", str(table)]) == 0
    found = read_blocks(table)
    assert found.model == NAME
    assert {one.block for one in found.latencies} == {WHOLE_NETWORK, *(one.name for one in found.blocks)}
    assert found.coverage(("XNNPACK", 1)) > 0
    known = next(one for one in found.blocks if one.stage)
    assert found.find(known.stage, known.inputs[0], ("XNNPACK", 1)).min_ms > 0
    other = artifact.with_name("other.tflite")
    other.write_bytes(artifact.read_bytes())
    assert main([str(artifact), str(other), "--blocks", str(table)]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CORRUPT", "--delegate", "xnpack"], "did you mean 'xnnpack'"),
        (["--adb", "CORRUPT"], "F.tflite"),
        (["CORRUPT", "--adb", "CORRUPT"], "put the files before it"),
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


def test_the_docs_name_every_delegate():
    (names,) = re.findall(r"export bench F\.tflite --delegate ([\w,-]+)`", text_of("docs/performance.md"))
    assert sorted(names.split(",")) == sorted(known_names())
