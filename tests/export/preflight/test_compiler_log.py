"""Logs in the compiler's formats, versions 2 to 16."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.preflight.compiler_log import LogLine, read_log

LOGS = Path(__file__).with_name("logs")

FAILURES = {
    "16-too-large": "Compilation failed due to large activation tensors in model",
    "14-not-quantized": "Model not quantized",
    "16-unknown-version": "Didn't find op for builtin opcode 'QUANTIZE' version '3'",
    "15-internal": "Internal compiler error",
    "16-dynamic": "Model failed in Tflite interpreter",
}


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
