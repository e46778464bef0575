"""TensorFlow's own analyzer judges the same files for GPUs.

TensorFlow 2.17 is the last one that does. What it refuses of the files made here is kept in
tests/golden/gpu_analyzer.json.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from support.goldens import FOLDER
from support.handmade import flatbuffer
from support.op_cases import DOUBTS, GPU, judged
from support.tiny_models import CLASSIFIERS, DETECTORS, quantized

from effkeras import EffkerasError
from export.preflight import check_for
from export.preflight.analyzer import Analyzed, Blind, analyzed, read_analysis

REFUSED = json.loads((FOLDER / "gpu_analyzer.json").read_text())["refused"]
# What the analyzer does not look at, and the delegate refuses when it builds its graph.
ONLY_OURS = ("dtypes", "static", "rank")
ON_SOME = [case for case in DOUBTS if case.target == "gpu"]

ANALYSIS = """\
Your TFLite model has '2' subgraph(s).

Subgraph#0 main(T#0) -> [T#3]
  Op#0 MUL(T#0, T#1) -> [T#2]
  Op#1 ARG_MAX(T#2) -> [T#3]
GPU COMPATIBILITY WARNING: Not supported op ARG_MAX

GPU COMPATIBILITY WARNING: Subgraph#0 has issues at nodes 1 on TFLite runtime version 2.17.1

Subgraph#1 body(T#0) -> [T#1]
  Op#0 TOPK_V2(T#0) -> [T#1]
GPU COMPATIBILITY WARNING: Not supported op TOPK_V2
"""


@pytest.mark.parametrize("case", [*GPU, *ON_SOME], ids=lambda case: case.label)
def test_both_judge_an_operator_alike(case):
    assert REFUSED[f"{case.label}:keeps"] == []
    assert judged(case.keeps, "gpu").on_device
    assert bool(REFUSED[f"{case.label}:breaks"]) == (case.rule not in ONLY_OURS)


@pytest.mark.parametrize("recipe", ["float32", "fp16", "dynamic", "int8"])
@pytest.mark.parametrize(
    "name", [pytest.param(DETECTORS[1], marks=pytest.mark.slow), DETECTORS[0], *CLASSIFIERS]
)
def test_both_take_every_kind_of_model(name, recipe):
    assert REFUSED[f"{name}:{recipe}"] == []
    found = check_for(quantized(name, recipe).flatbuffer, "gpu")
    assert (found.passed, found.doubts) == (True, ())


def test_an_analysis_is_read_operator_by_operator():
    assert read_analysis(ANALYSIS) == {1: "Not supported op ARG_MAX"}


def test_where_the_two_differ():
    content = flatbuffer(GPU[1].breaks)
    refuses = Analyzed("2.17.1", {})
    (difference,) = refuses.differences(check_for(content, "gpu"))
    assert "only the table refuses it" in difference
    takes = check_for(flatbuffer(GPU[1].keeps), "gpu")
    assert Analyzed("2.17.1", {0: "too old"}).differences(takes) == [
        "0 RELU: only the analyzer refuses it (too old)"
    ]


@pytest.mark.slow
def test_an_analyzer_that_does_not_look_says_so():
    """That of the TensorFlow which is installed."""
    found = analyzed(flatbuffer(GPU[0].keeps))
    assert isinstance(found, Blind)
    (line,) = found.lines(check_for(flatbuffer(GPU[0].keeps), "gpu"))
    assert "checks nothing" in line[1]


@pytest.fixture
def python(tmp_path):
    """A script in place of a Python that has TensorFlow 2.17: it writes such an analysis of every file."""

    def make(analysis: str, code: int = 0) -> str:
        script = tmp_path / "python"
        script.write_text(
            f"#!{sys.executable}\nimport sys\nmark, *files = sys.argv[3:]\nprint(mark, '2.17.1')\n"
            f"for file in files: print(mark, {analysis!r})\nprint('no such module', file=sys.stderr)\n"
            f"sys.exit({code})\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return str(script)

    return make


def test_another_environment_can_be_named(python):
    content = flatbuffer(GPU[0].keeps)
    assert analyzed(content, python(ANALYSIS)) == Analyzed("2.17.1", {1: "Not supported op ARG_MAX"})
    assert analyzed(content, python("")) == Blind("2.17.1")


def test_what_goes_wrong_there_is_an_error(python, tmp_path):
    content = flatbuffer(GPU[0].keeps)
    with pytest.raises(EffkerasError, match="cannot read the file"):
        analyzed(content, python("Failed to mmap the given model buffer."))
    with pytest.raises(EffkerasError, match="no such module"):
        analyzed(content, python("", code=1))
    with pytest.raises(EffkerasError, match="cannot start"):
        analyzed(content, str(Path(tmp_path) / "nosuch"))
