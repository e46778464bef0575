"""The compiler cannot be installed everywhere: a script writes what it would."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from pathlib import Path

import pytest
from support.handmade import Op, flatbuffer
from support.op_cases import image, unary

from effkeras import EffkerasError
from effkeras.litert.rewriting import attach
from export.preflight import check_for
from export.preflight.__main__ import main
from export.preflight.compiler import Absent, LogLine, compiled, read_log

FAILURES = {
    "16-too-large": "Compilation failed due to large activation tensors in model",
    "14-not-quantized": "Model not quantized",
    "16-unknown-version": "Didn't find op for builtin opcode 'QUANTIZE' version '3'",
    "15-internal": "Internal compiler error",
    "16-dynamic": "Model failed in Tflite interpreter",
}
ROWS = """\
Edge TPU Compiler version 16.0.384591198
Model compiled successfully in 10 ms.
On-chip memory used for caching model parameters: 1.00KiB
On-chip memory remaining for caching model parameters: 7.00MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 2

Operator                       Count      Status

RELU                           1          Mapped to Edge TPU
TANH                           1          {status}
"""
MAPPED = "Mapped to Edge TPU"
LOGS = Path(__file__).with_name("logs")
SEARCHED, TOO_LARGE = ((LOGS / name).read_text() for name in ("16-searched.txt", "16-too-large.txt"))


def log_of(name: str) -> str:
    return (LOGS / f"{name}.txt").read_text()


def test_version_16():
    log = read_log(log_of("16"))
    assert (log.version, log.error, log.subgraphs) == ("16.0.384591198", None, 1)
    assert (log.cached, log.left, log.streamed) == (round(6.08 * 2**20), 1536, round(1.7 * 2**20))
    assert [(one.op, one.count, one.maps) for one in log.lines] == [
        ("RESIZE_NEAREST_NEIGHBOR", 2, True),
        ("CONCATENATION", 1, False),
        ("CONV_2D", 6, True),
        ("MEAN", 2, False),
        ("CUSTOM", 1, False),
    ]
    assert log.lines[3].status == "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"


def test_version_2_lists_the_operators_in_a_file_aside():
    log = read_log(log_of("2"), log_of("2-aside"))
    assert log.lines == (LogLine("DEPTHWISE_CONV_2D", 1, "Mapped to Edge TPU"),)
    assert (log.cached, log.left, log.streamed) == (10 * 2**10, round(1.73 * 2**20), 0)


def test_of_several_attempts_the_last_counts():
    log = read_log(log_of("16-searched"))
    assert (log.error, log.too_large, log.cached) == (None, False, 2 * 2**20)
    assert log.lines[1].status == "More than one subgraph is not supported"


@pytest.mark.parametrize("name", FAILURES)
def test_why_there_is_no_result(name):
    log = read_log(log_of(name), code=1)
    assert (log.error, log.lines) == (FAILURES[name], ())
    assert log.too_large == (name == "16-too-large")


@pytest.mark.parametrize("said", ["", "Edge TPU Compiler version 15.0.340273435\n"])
def test_no_result_and_no_reason(said):
    assert read_log(said, code=1).error == "it ended with code 1 and made nothing"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a script on PATH under the compiler's name."""

    def put(body: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        command = folder / "edgetpu_compiler"
        command.write_text(
            f"#!{sys.executable}\nimport json, pathlib, sys, time\nwords = sys.argv[1:]\n{body}\n"
        )
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return folder

    return put


def talk(said: str, *, makes: bytes | None = None) -> str:
    make = f"pathlib.Path(words[-1][:-7] + '_edgetpu.tflite').write_bytes({makes!r})" if makes else ""
    return f"print({said!r})\n{make}\nsys.exit({0 if makes else 1})"


@pytest.fixture(scope="module")
def content() -> bytes:
    middle = image()
    return attach(flatbuffer(unary("RELU", result=middle), unary("TANH", middle)), "labels", b"cat")


@pytest.fixture(scope="module")
def result() -> bytes:
    """What the compiler would make: one custom operator, without the metadata."""
    return flatbuffer(Op("edgetpu-custom-op", [image()], [image()]))


def test_without_the_compiler_the_table_alone_judges(content, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiled(content, "net") == Absent()
    file = tmp_path / "net.tflite"
    file.write_bytes(content)
    assert main([str(file)]) == 0
    assert "not installed" in capsys.readouterr().out
    assert main([str(file), "--compile", str(tmp_path / "out.tflite")]) == 2
    assert "https://coral.ai/docs/edgetpu/compiler/" in capsys.readouterr().err


def test_its_log_is_compared_with_the_table(content, result, install, tmp_path, capsys):
    install(talk(ROWS.format(status=MAPPED), makes=result))
    found = compiled(content, "net")
    assert found.passed
    assert found.differences(check_for(content, "edgetpu")) == []
    file = tmp_path / "net.tflite"
    file.write_bytes(content)
    assert main([str(file)]) == 0
    said = capsys.readouterr().out
    assert "agrees on every kind of operator" in said
    assert max(map(len, said.splitlines())) <= 80


def test_where_they_differ_the_compiler_is_right(content, result, install, tmp_path, capsys):
    install(talk(ROWS.format(status="Operation not supported"), makes=result))
    found = compiled(content, "net")
    assert not found.passed
    assert found.differences(check_for(content, "edgetpu")) == [
        "TANH: the compiler maps 0, the table 1 (Operation not supported)"
    ]
    file = tmp_path / "net.tflite"
    file.write_bytes(content)
    assert main([str(file), "--json"]) == 1
    row = json.loads(capsys.readouterr().out)
    assert (row["passed"], row["compiler"]["passed"]) == (True, False)
    assert row["compiler"]["ops"][1]["status"] == "Operation not supported"


def test_no_compiler_leaves_it_out(content, result, install, tmp_path, capsys):
    install(talk(ROWS.format(status="Operation not supported"), makes=result))
    file = tmp_path / "net.tflite"
    file.write_bytes(content)
    assert main([str(file), "--no-compiler"]) == 0
    assert "edgetpu_compiler  version" not in capsys.readouterr().out


def test_too_large_activations_are_searched_for_a_cut(content, result, install, capsys):
    body = f"if '--search_delegate' not in words:\n    print({TOO_LARGE!r}); sys.exit(1)\n"
    install(body + talk(SEARCHED, makes=result))
    found = compiled(content, "net")
    assert found.log.error is None
    assert not found.passed  # a concatenation is left to the CPU
    assert "search" in capsys.readouterr().err


def test_a_refused_file_does_not_pass(content, install, tmp_path, capsys):
    install(talk("Edge TPU Compiler version 14.1.317412892\nInvalid model: net.tflite\nModel not quantized"))
    found = compiled(content, "net")
    assert (found.passed, found.log.error) == (False, "Model not quantized")
    with pytest.raises(EffkerasError, match="made no file: Model not quantized"):
        compiled(content, "net", tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()


def test_a_compiler_that_takes_too_long_is_ended_with_its_children(content, install, tmp_path):
    mark = tmp_path / "child"
    body = "import subprocess\nsubprocess.Popen([sys.executable, '-c', 'import time, pathlib; time.sleep(3); "
    body += f'pathlib.Path("{mark}").touch()\'])\ntime.sleep(60)'
    install(body)
    with pytest.raises(EffkerasError, match="took longer than 1 s"):
        compiled(content, "net", timeout=1)
    time.sleep(2.5)
    assert not mark.exists()


def test_what_is_no_program_is_an_error(content, install):
    folder = install("")
    (folder / "edgetpu_compiler").write_bytes(b"\x7fELF no program at all")
    with pytest.raises(EffkerasError, match="cannot start"):
        compiled(content, "net")


def test_the_compiled_file_is_kept_with_its_metadata(content, result, install, tmp_path, capsys):
    metadata = pytest.importorskip("export.metadata")
    note = metadata.TensorMetadata("values")
    papers = metadata.Metadata("net", inputs=(note,), outputs=(note,), files={"labels.txt": b"cat"})
    original = metadata.attach(content, papers)
    install(talk(ROWS.format(status=MAPPED), makes=result))
    out = tmp_path / "out.tflite"
    found = compiled(original, "net", out)
    assert found.kept == out
    assert metadata.read(out.read_bytes()) == metadata.read(original)
    assert check_for(out.read_bytes(), "gpu").verdicts[0].op == "edgetpu-custom-op"
