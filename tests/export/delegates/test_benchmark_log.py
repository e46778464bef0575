"""The logs are written after the tool's source and after what people have shown of its runs on phones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.delegates.benchmark_log import Applied, Node, Statistics, read_log

LOGS = Path(__file__).with_name("logs")


def log(name):
    return read_log((LOGS / f"{name}.txt").read_text())


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("2019-plain", Statistics(50, 66699, 66767.6)),
        ("2.8-profile", Statistics(50, 2727568, 2950340)),
        ("2.15-nnapi", Statistics(520, 1171, 1885.74)),
        ("2.17-xnnpack-profile", Statistics(1, 4069, 4069, 4069, 4069)),
        ("2.18-gpu", Statistics(50, 111842, 115246, 115350, 116620)),
        ("logcat", Statistics(25, 140071, 145528, 141253, 187533)),
    ],
)
def test_the_timed_runs_of_every_version_are_read(name, figures):
    assert log(name).statistics == figures
    assert log(name).error is None


def test_what_else_a_log_says_is_read():
    gpu = log("2.18-gpu")
    assert (gpu.init_us, gpu.memory_mb, gpu.version) == (1361236, 93.2383, "2.18.0")
    assert gpu.applied == (
        Applied("TfLiteGpuDelegateV2", 1, 1, False),
        Applied("TfLiteXNNPackDelegate", 1, 1, False),
        Applied("GPU", None, 1, False),
    )
    old = log("2019-plain")
    assert (old.init_us, old.memory_mb, old.version, old.applied) == (9933, None, None, ())
    assert log("2.8-profile").memory_mb == 46.0859  # no peak in this version
    assert log("2.15-nnapi").applied[-1] == Applied("NNAPI", None, 1, True)
    assert log("logcat").applied == (Applied("GPU", None, 2, False),)
    assert log("unknown-flag").unknown_flags == ("--use_nnapi=true",)
    assert log("refused").refused == ("NNAPI",)


def test_the_profile_is_that_of_the_runs_not_of_loading_nor_of_a_delegate_inside():
    assert log("2.8-profile").nodes == (
        Node("CONV_2D", "net/stem_act/Relu6;net/stem_conv", 60.957),
        Node("DEPTHWISE_CONV_2D", "net/block0_depthwise_act/Relu6", 19.87),
        Node("SOFTMAX", "StatefulPartitionedCall:0", 5.208),
    )
    assert log("2.17-xnnpack-profile").nodes == (
        Node("TfLiteXNNPackDelegate", "StatefulPartitionedCall:0", 4.011),
        Node("RESIZE_NEAREST_NEIGHBOR", "net/fpn_up/resize", 0.058),
    )
    assert log("2.18-gpu").nodes == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ((LOGS / "gpu-fails.txt").read_text(), "Can not open OpenCL library"),
        ("/system/bin/sh: /data/local/tmp/b: not executable: 64-bit ELF file\n", "not executable"),
        ('CANNOT LINK EXECUTABLE "./b": library "libEGL.so" not found\n', "CANNOT LINK EXECUTABLE"),
        ("ERROR: Failed to load model /data/local/tmp/0.tflite\nERROR: Benchmarking failed.\n", "load model"),
        ("ERROR: Benchmarking failed.\n", "Benchmarking failed"),
        ("INFO: STARTING!\nSegmentation fault \n", "Segmentation fault"),
        ("INFO: STARTING!\n", "STARTING"),
        ("", "printed nothing"),
    ],
)
def test_a_failure_gives_its_cause(text, reason):
    found = read_log(text)
    assert found.statistics is None
    assert reason in found.error


def test_a_phones_line_ends_do_not_matter():
    text = (LOGS / "2.18-gpu.txt").read_text()
    assert read_log(text.replace("\n", "\r\n")) == read_log(text)


@given(st.integers(0, 4000), st.binary(max_size=8))
def test_a_log_that_breaks_off_or_is_garbled_is_read_as_far_as_it_goes(place, garbage):
    text = (LOGS / "2.8-profile.txt").read_bytes()
    found = read_log((text[:place] + garbage + text[place + len(garbage) :]).decode(errors="replace"))
    assert found.statistics is not None or found.error
    found = read_log(text[:place].decode())
    assert found.statistics is not None or found.error
