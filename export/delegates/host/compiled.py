"""LiteRT's CompiledModel on the CPU and on the GPU.

On the GPU it uses WebGPU on top of Vulkan. Without a GPU, Debian's SwiftShader can take its place in tests.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.delegates.delegate import DELEGATES

if TYPE_CHECKING:
    from effkeras.litert.latency import Session

# The Vulkan loader that LiteRT's accelerator opens at run time, on Linux.
LOADER = "libvulkan.so.1"


@dataclass(frozen=True, slots=True)
class CompiledCpu:
    """CompiledModel on the CPU with 1..n threads; it also uses XNNPACK."""

    name: str = "compiled-cpu"
    title: str = "compiled CPU"
    how_to_get: str = "pip install -U 'ai-edge-litert>=2.1'"
    takes_threads: bool = True

    def missing(self) -> str | None:
        """The reason if ai-edge-litert is too old to have CompiledModel, else None."""
        found = importlib.util.find_spec("ai_edge_litert.compiled_model")
        return None if found else "this ai-edge-litert has no CompiledModel"

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError if the delegate cannot run it, EffkerasError if corrupt."""
        from ai_edge_litert.compiled_model import CpuOptions, HardwareAccelerator, Options

        from export.delegates.compiled import compile_for

        options = Options(HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=threads))
        return compile_for(flatbuffer, options)


DELEGATES.register("compiled-cpu")(CompiledCpu())


@dataclass(frozen=True, slots=True)
class CompiledGpu:
    """CompiledModel on the GPU; operators that it does not take run on the CPU (`Delegation.whole`)."""

    name: str = "compiled-gpu"
    title: str = "compiled GPU"
    how_to_get: str = (
        "install the GPU's Vulkan driver and libvulkan1; without a GPU, to test and not to time: "
        "apt-get install libvulkan1 chromium-common; "
        "export VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json"
    )
    takes_threads: bool = False

    def missing(self) -> str | None:
        """Why it cannot run (no CompiledModel or Vulkan loader), else None; only a probe can find a GPU."""
        if not importlib.util.find_spec("ai_edge_litert.compiled_model"):
            return "this ai-edge-litert has no CompiledModel"
        return None if sys.platform != "linux" or _loads(LOADER) else f"no Vulkan loader ({LOADER})"

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError if the delegate cannot run it, EffkerasError if corrupt."""
        from ai_edge_litert.compiled_model import CpuOptions, HardwareAccelerator, Options

        from export.delegates.compiled import compile_for

        accelerators = HardwareAccelerator.GPU | HardwareAccelerator.CPU
        return compile_for(flatbuffer, Options(accelerators, cpu_options=CpuOptions(num_threads=threads)))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


DELEGATES.register("compiled-gpu")(CompiledGpu())
