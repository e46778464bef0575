"""The largest classifier and detector with published plain weights export on an ordinary machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.proofs import EXPORTED, proven

GIGABYTES = 14


@pytest.mark.nightly("large-models")
@pytest.mark.parametrize("model", proven(["efficientnet-b7", "efficientdet-d7x"], EXPORTED))
def test_a_large_model_becomes_a_float_file(model, tmp_path):
    out = tmp_path / "large.tflite"
    command = [sys.executable, "-m", "export.tflite", model, "--recipe", "float32", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0, printed
    assert usage.ru_maxrss < GIGABYTES * 2**20  # kilobytes on Linux
    assert out.stat().st_size > 200e6
    assert "1 partition" in printed
    Path(out).unlink()
