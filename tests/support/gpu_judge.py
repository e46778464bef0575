"""`python gpu_judge.py F.tflite`: by how much CompiledModel's results on GPU and CPU differ, as JSON.

Run in a process of its own: the Vulkan loader looks at its environment once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from export.delegates.host.compiled import CompiledCpu, CompiledGpu


def main(file: Path) -> None:
    """Prints, for every output, the largest difference as a share of the output's spread."""
    gpu, cpu = (one.open(file.read_bytes(), 1) for one in (CompiledGpu(), CompiledCpu()))
    images = np.random.default_rng(0).uniform(0, 255, next(iter(cpu.inputs.values())).values.shape)
    differences = {}
    for session in (gpu, cpu):
        for given in session.inputs.values():
            given.values[...] = images.astype(given.values.dtype)
        session.run()
    for name, made in gpu.outputs.items():
        ours, theirs = (one.buffer.read(one.size, one.dtype) for one in (made, cpu.outputs[name]))
        differences[name] = float(np.abs(ours - theirs).max() / theirs.std())
    print(json.dumps({"whole": gpu.delegation().whole, "differences": differences}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
