from __future__ import annotations

import os

import pytest
from support.fake_adb import READY, FakePhones, benchmark
from support.handmade import flatbuffer
from support.op_cases import image, unary

from effkeras import EffkerasError
from effkeras.litert.latency import Plan
from effkeras.support.measurements import Delegation, Latency
from export.delegates.android import time_on_phone
from export.delegates.delegate import Absent, BenchmarkCase, PhoneOptions

SERIAL = "14151FDF6"
PLAN = Plan(runs=50, warmup=3)


@pytest.fixture
def phones(tmp_path, monkeypatch):
    made = FakePhones(tmp_path / "phones")
    monkeypatch.setenv("PATH", str(made.home / "path"), prepend=os.pathsep)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    return made


@pytest.fixture
def binary(tmp_path):
    return benchmark(
        tmp_path / "host" / "benchmark_model",
        xnnpack="2.17-xnnpack-profile",
        gpu="2.18-gpu",
        nnapi="2.15-nnapi",
    )


@pytest.fixture(scope="module")
def content() -> bytes:
    """Three operators, as the logs say."""
    first, second = image(), image()
    chain = [unary("RELU", result=first), unary("TANH", first, second), unary("RELU", second)]
    return flatbuffer(*chain)


def jobs(content, *names):
    return [BenchmarkCase(content, name) for name in names]


def times(latency):
    return latency.min_ms, latency.mean_ms, latency.median_ms, latency.p95_ms


def test_every_accelerator_is_timed_with_what_ran_it(phones, binary, content):
    options = PhoneOptions(binary=binary)
    cpu, gpu, nnapi = time_on_phone(jobs(content, "xnnpack", "gpu", "nnapi"), PLAN, options)
    assert times(cpu) == (4.069, 4.069, 4.069, 4.069)
    assert cpu.delegation == Delegation(3, 2, 1, False)
    assert cpu.peak_bytes == round(2.5 * 2**20)
    assert [node["op"] for node in cpu.details["profile"]] == [
        "TfLiteXNNPackDelegate",
        "RESIZE_NEAREST_NEIGHBOR",
    ]
    assert times(gpu) == (111.842, 115.246, 115.35, 116.62)
    assert gpu.delegation == Delegation(3, 1, 1, False)
    assert gpu.details["benchmark_version"] == "2.18.0"
    assert gpu.details["load_ms"] == 1361.236
    assert times(nnapi) == (1.171, pytest.approx(1.88574), None, None)
    assert (nnapi.delegation, nnapi.median_ms) == (Delegation(3, 3, 1, True), None)
    phone = {"model": "Pixel 6", "android": "14", "chip": "Tensor", "platform": "", "abi": ""}
    assert (cpu.details["phone"], cpu.details["serial"]) == (phone, SERIAL)
    assert (cpu.delegate, cpu.kernels) == ("android-xnnpack", "phone XNNPACK")


def test_jobs_take_turns_and_leave_nothing_behind(phones, binary, content):
    two = [
        BenchmarkCase(content, "xnnpack", 1),
        BenchmarkCase(content, "xnnpack", 4),
        BenchmarkCase(content, "gpu"),
    ]
    time_on_phone(two, PLAN, PhoneOptions(SERIAL, binary))
    calls = phones.benchmarks
    timed, profiled = calls[:15], calls[15:]
    flags = ["--num_threads=1", "--num_threads=4", "--use_gpu=true"] * 5
    assert all(flag in call for flag, call in zip(flags, timed, strict=True))
    assert all("--num_runs=10 --warmup_runs=3 --min_secs=0" in call for call in timed)
    assert not any("--enable_op_profiling" in call for call in timed)
    assert len(profiled) == 3
    assert all("--enable_op_profiling=true" in call for call in profiled)
    pushed = [words for words in phones.calls if words[0] == "push"]
    assert len(pushed) == 2  # the benchmark and one file
    assert phones.left == []


@pytest.mark.parametrize(("runs", "parts"), [(3, [3]), (12, [6, 6]), (27, [6, 6, 5, 5, 5])])
def test_all_runs_are_made_and_few_are_not_parted(phones, binary, content, runs, parts):
    time_on_phone(jobs(content, "gpu"), Plan(runs, 0), PhoneOptions(binary=binary))
    timed = phones.benchmarks[:-1]
    assert [int(call.partition("--num_runs=")[2].split()[0]) for call in timed] == parts


@pytest.mark.parametrize(
    ("log", "way", "reason"),
    [
        ("no-gpu", "gpu", "GPU acceleration is unsupported on this platform"),
        ("gpu-fails", "gpu", "Can not open OpenCL library"),
        ("unknown-flag", "nnapi", "does not know --use_nnapi=true"),
        ("refused", "nnapi", "takes no operator of this file"),
        ("2019-plain", "xnnpack", "does not say that it was used"),
    ],
)
def test_figures_of_the_cpu_are_not_taken_for_those_of_an_accelerator(
    phones, tmp_path, content, log, way, reason
):
    binary = benchmark(tmp_path / "host" / "old", **{way: log, "other": "2.18-gpu"})
    found, other = time_on_phone(jobs(content, way, "gpu"), PLAN, PhoneOptions(binary=binary))
    assert isinstance(found, Absent)
    assert reason in found.reason
    assert found.how_to_get
    assert isinstance(other, Absent if way == "gpu" else Latency)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"devices": {}}, "no phone is connected"),
        ({"devices": {SERIAL: "offline"}}, "adb reconnect"),
        ({"devices": {SERIAL: "unauthorized"}}, "accept this computer's key"),
        ({"devices": {"A": READY, "B": READY}}, "choose one with --adb SERIAL"),
        ({"full": True}, "No space left on device"),
        ({"gone_after": 0}, "not found"),
    ],
)
def test_what_is_wrong_with_the_phone_is_reported_for_every_job(phones, binary, content, settings, reason):
    phones.set(**settings)
    found = time_on_phone(jobs(content, "xnnpack", "gpu"), PLAN, PhoneOptions(binary=binary))
    assert len(found) == 2
    assert all(isinstance(one, Absent) and reason in one.advice for one in found)


def test_a_phone_that_is_unplugged_on_the_way_gives_no_figures(phones, binary, content):
    phones.set(gone_after=14)
    found = time_on_phone(jobs(content, "xnnpack", "gpu"), PLAN, PhoneOptions(binary=binary))
    assert all(isinstance(one, Absent) and "not found" in one.reason for one in found)


def test_without_a_binary_it_is_said_where_to_get_it(phones, content, tmp_path):
    (found,) = time_on_phone(jobs(content, "gpu"), PLAN, PhoneOptions())
    assert "android_aarch64_benchmark_model" in found.advice
    with pytest.raises(EffkerasError, match=r"nosuch: No such file.*android_aarch64_benchmark_model"):
        time_on_phone(jobs(content, "gpu"), PLAN, PhoneOptions(binary=tmp_path / "nosuch"))


def test_a_binary_for_another_processor_is_reported(phones, content, tmp_path):
    broken = tmp_path / "benchmark_model"
    broken.write_bytes(b"\x7fELF\x02\x01\x01\x00for another processor")
    (found,) = time_on_phone(jobs(content, "gpu"), PLAN, PhoneOptions(binary=broken))
    assert isinstance(found, Absent)


def test_a_row_tells_all(phones, binary, content):
    (found,) = time_on_phone(jobs(content, "gpu"), PLAN, PhoneOptions(binary=binary))
    row = found.to_row()
    figures = [row[name] for name in ("min_ms", "median_ms", "p95_ms", "mean_ms")]
    assert figures == [111.842, 115.35, 116.62, 115.246]
    assert (row["kernels"], row["runs"], row["delegated_ops"], row["partitions"]) == ("phone GPU", 50, 1, 1)
    assert row["peak_bytes"] == round(93.2383 * 2**20)
    assert row["phone"]["model"] == "Pixel 6"
