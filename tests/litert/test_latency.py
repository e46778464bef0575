from __future__ import annotations

import pytest
from support.tiny_models import quantized

from effkeras import EffkerasError
from effkeras.litert.latency import InterpreterOptions, Plan, measure, measure_all

NAME = "efficientdet-lite0"
OPTIONS = [InterpreterOptions(xnnpack=True, threads=1), InterpreterOptions(xnnpack=False, threads=2)]


def test_every_setting_is_timed_with_what_ran_it(tmp_path):
    file = tmp_path / "net.tflite"
    file.write_bytes(quantized(NAME, "int8", "uint8").flatbuffer)
    fast, plain = measure(file, OPTIONS, runs=5, warmup=1)
    for latency, options in ((fast, OPTIONS[0]), (plain, OPTIONS[1])):
        assert (latency.delegate, latency.threads) == (options.delegate, options.threads)
        assert latency.kernels == options.kernels
        assert 0 < latency.min_ms <= latency.median_ms <= latency.p95_ms
        assert latency.min_ms <= latency.mean_ms
        assert (latency.runs, latency.warmup) == (5, 1)
    assert fast.delegation.partitions == 1
    assert plain.delegation.partitions == 0


def test_a_row_is_never_a_bare_figure():
    (latency,) = measure(quantized(NAME, "float32").flatbuffer, OPTIONS[:1], runs=2, warmup=0)
    row = latency.to_row()
    assert {"kernels", "threads", "runs", "min_ms", "median_ms", "p95_ms", "delegated_ops"} <= row.keys()
    assert row["kernels"] == "XNNPACK"


@pytest.mark.parametrize("plan", [Plan(runs=0), Plan(warmup=-1)])
def test_impossible_plans_are_refused(plan):
    with pytest.raises(EffkerasError, match="at least 1 run"):
        measure_all([(quantized(NAME, "float32").flatbuffer, OPTIONS[0])], plan)
