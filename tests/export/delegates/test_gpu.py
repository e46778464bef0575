"""CompiledModel computes on a GPU what it does on the CPU, judged on SwiftShader, a Vulkan for CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import effkeras
from effkeras.litert.convert import to_flatbuffer

CHROMIUM = Path("/usr/lib/chromium")
DRIVER = CHROMIUM / "vk_swiftshader_icd.json"
JUDGE = Path(__file__).parents[2] / "support" / "gpu_judge.py"

pytestmark = pytest.mark.skipif(
    not DRIVER.is_file(), reason="needs apt-get install libvulkan1 chromium-common"
)


@pytest.mark.parametrize("name", ["efficientdet-digits", "efficientdet-digits-d0", "efficientnet-digits-b0"])
def test_results_are_those_of_the_cpu(name, tmp_path):
    file = tmp_path / "model.tflite"
    file.write_bytes(to_flatbuffer(effkeras.build(name, weights="digits")))
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(CHROMIUM),  # brings a loader where libvulkan1 is not installed
        "VK_ICD_FILENAMES": str(DRIVER),
        "PYTHONPATH": str(JUDGE.parents[1]),
    }
    command = [sys.executable, str(JUDGE), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    judged = json.loads(done.stdout.splitlines()[-1])
    assert judged["whole"]
    assert max(judged["differences"].values()) < 0.02, judged  # it computes in float16
