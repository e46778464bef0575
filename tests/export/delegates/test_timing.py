from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support.pages import complete_file
from support.small_tflite import small_tflite

from effkeras import EffkerasError
from effkeras.cli import main
from effkeras.litert.flatbuffer import operators
from effkeras.litert.latency import Plan, distribution, rounds
from effkeras.support import results
from effkeras.support.measurements import Delegation, Latency
from export.delegates import probe
from export.delegates.delegate import (
    DELEGATES,
    Absent,
    BenchmarkCase,
    UnusableError,
    checked_names,
    host_delegates,
)
from export.delegates.host.compiled import CompiledGpu
from export.delegates.host.edgetpu import EdgeTpu, EdgeTpuSession
from export.delegates.host.interpreter_cpu import PLAIN
from export.delegates.probe import Probe, probe_file
from export.delegates.timing import time_here

PLAN = Plan(runs=4, warmup=1)


def in_process(*names, threads=1):
    return [BenchmarkCase(small_tflite(), name, threads, probed=False) for name in names]


def test_the_delegates_of_every_machine_are_timed():
    total = len(operators(small_tflite()))
    fast, plain, compiled = time_here(in_process("xnnpack", "plain", "compiled-cpu"), PLAN)
    for one in (fast, plain, compiled):
        assert 0 < one.min_ms <= one.median_ms <= one.p95_ms
        assert one.min_ms <= one.mean_ms
        assert (one.runs, one.warmup) == (PLAN.runs, PLAN.warmup)
        assert one.delegation.total_ops == total
    assert fast.delegation.partitions == 1
    assert 0 < fast.delegation.delegated_ops <= total
    assert plain.delegation == Delegation(total, 0, 0, False)
    assert (fast.kernels, plain.kernels, compiled.kernels) == ("XNNPACK", "plain", "compiled CPU")


def test_a_compiled_model_gives_what_the_interpreter_gives():
    first = host_delegates()["plain"].open(small_tflite(), 1)
    second = host_delegates()["compiled-cpu"].open(small_tflite(), 1)
    first.run()
    second.run()
    (detail,) = first.interpreter.get_output_details()
    (output,) = second.outputs.values()
    expected = first.interpreter.get_tensor(detail["index"]).ravel()
    apart = output.buffer.read(output.size, output.dtype).astype(int) - expected
    assert np.abs(apart).max() <= 1  # other kernels may round otherwise


def test_what_is_absent_keeps_its_place_and_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("export.delegates.host.edgetpu.LIBRARIES", {sys.platform: "libnosuch.so.1"})
    jobs = [*in_process("plain"), BenchmarkCase(small_tflite(), "edgetpu"), *in_process("edgetpu", "plain")]
    first, absent, follows, last = time_here(jobs, PLAN)
    assert isinstance(first, Latency)
    assert isinstance(last, Latency)
    assert absent == follows == Absent("edgetpu", "libnosuch.so.1 is not installed", EdgeTpu().how_to_get)
    assert "libedgetpu1-std" in absent.advice


def test_nothing_but_absent_delegates_is_no_error(monkeypatch):
    monkeypatch.setattr("export.delegates.host.edgetpu.LIBRARIES", {sys.platform: "libnosuch.so.1"})
    (absent,) = time_here([BenchmarkCase(small_tflite(), "edgetpu")], PLAN)
    assert isinstance(absent, Absent)


def test_a_file_that_is_not_compiled_is_told_how_in_words_that_there_are(capsys):
    with pytest.raises(UnusableError) as error:
        EdgeTpu().open(small_tflite(), 1)
    (option,) = re.findall(r"preflight FILE (--\w+) COMPILED.tflite", str(error.value))
    with pytest.raises(SystemExit):
        main(["export", "preflight", "--help"])
    assert f"{option} OUT.tflite" in capsys.readouterr().out


def test_the_edge_tpu_wants_a_compiled_file():
    with pytest.raises(UnusableError, match="not compiled for the Edge TPU"):
        EdgeTpu().open(small_tflite(), 1)


NO_DEVICE = """
#include <stddef.h>
void *tflite_plugin_create_delegate(char **keys, char **values, size_t number, void (*report)(const char *)) {
  report("no Edge TPU is plugged in");
  return NULL;
}
void tflite_plugin_destroy_delegate(void *delegate) {}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="builds a library in C")
def test_the_edge_tpus_library_without_a_device_gives_its_own_reason(tmp_path, monkeypatch):
    source, library = tmp_path / "edgetpu.c", tmp_path / "libedgetpu.so.1"
    source.write_text(NO_DEVICE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setattr("export.delegates.host.edgetpu.LIBRARIES", {sys.platform: str(library)})
    monkeypatch.setattr("effkeras.litert.edge_tpu.COMPILED", "CONV_2D")
    assert EdgeTpu().missing() is None
    with pytest.raises(UnusableError, match="no Edge TPU is plugged in"):
        EdgeTpu().open(small_tflite(), 1)


def test_the_compiled_operators_are_the_edge_tpus_share():
    inner = PLAIN.open(small_tflite(), 1)
    assert EdgeTpuSession(inner, 1, 1).delegation() == Delegation(1, 1, 1, True)
    assert EdgeTpuSession(inner, 1, 4).delegation().short() == "1/4 in 1"


def test_a_gpu_without_a_loader_is_absent(monkeypatch):
    monkeypatch.setattr("export.delegates.host.compiled.LOADER", "libnosuch-vulkan.so.1")
    if sys.platform == "linux":
        assert "libnosuch-vulkan" in CompiledGpu().missing()
    assert "VK_ICD_FILENAMES" in CompiledGpu().how_to_get


def test_a_gpu_runs_or_is_absent():
    (found,) = time_here([BenchmarkCase(small_tflite(), "compiled-gpu")], PLAN)
    if isinstance(found, Absent):
        assert found.reason
    else:
        assert found.min_ms > 0


def test_a_trial_tells_the_memory_that_a_file_takes():
    done = probe_file(small_tflite(), "xnnpack", 1)
    assert done.failure is None
    assert 0 < done.peak_bytes < 200e6


def test_a_trial_gives_the_reason_of_a_failure():
    assert "Edge TPU" in probe_file(small_tflite(), "edgetpu", 1).failure
    assert "not a .tflite file" in probe_file(b"not a model", "plain", 1).failure


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV"),
        ("import sys; sys.exit('driver lost')", "exit code 1.*driver lost"),
    ],
)
def test_a_driver_that_takes_its_process_down_is_reported(tmp_path, monkeypatch, body, failure):
    (tmp_path / "crashing.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "_MODULE", "crashing")
    found = probe_file(b"", "xnnpack", 1)
    assert found.peak_bytes is None
    assert re.search(failure, found.failure)


def test_sessions_take_turns():
    order = []

    class Noted:
        def __init__(self, name):
            self.name = name

        def run(self):
            order.append(self.name)

        def delegation(self):
            return Delegation(1)

    times = rounds([Noted("a"), Noted("b")], Plan(runs=2, warmup=1), "timing")
    assert order == ["a", "b"] * 3
    assert times.shape == (2, 2)
    assert rounds([], PLAN, "timing").shape[1] == 0


def test_a_distribution_is_numpys():
    shortest, mean, median, p95 = distribution(np.arange(1.0, 101.0))
    assert (shortest, mean, median) == (1, 50.5, 50.5)
    assert p95 == pytest.approx(95.05)


OWN_DELEGATE = complete_file("delegate.md")


def test_a_delegate_of_one_file_is_timed_by_the_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_delegate.py").write_text(OWN_DELEGATE)
    file, rows = tmp_path / "model.tflite", tmp_path / "rows.jsonl"
    file.write_bytes(small_tflite())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(DELEGATES, "_entries", DELEGATES.entries())
    importlib.import_module("own_delegate")
    command = ["export", "bench", str(file), "--delegate", "own", "--runs", "2", "--out", str(rows)]
    assert main(command) == 0
    assert "own accelerator" in capsys.readouterr().out
    (row,) = results.read(rows)
    assert (row["delegate"], row["kernels"], row["threads"]) == ("own", "own accelerator", 1)
    assert row["peak_bytes"] is not None  # it was run in a process of its own, which found it too
    with pytest.raises(SystemExit):
        main(["export", "bench", "--help"])
    assert "own" in capsys.readouterr().out.split("--delegate")[-1]


def test_names_are_checked():
    assert checked_names(["plain", "xnnpack", "plain"]) == ("plain", "xnnpack")
    with pytest.raises(EffkerasError, match=r"no delegate 'xnnpak'; did you mean 'xnnpack'"):
        checked_names(["xnnpak"])


@pytest.mark.parametrize("plan", [Plan(runs=0), Plan(warmup=-1)])
def test_impossible_plans_are_refused(plan):
    with pytest.raises(EffkerasError, match="at least 1 run"):
        time_here(in_process("plain"), plan)
    assert Probe().failure is None
