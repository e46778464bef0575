"""LiteRT's CompiledModel, the successor of the Interpreter, on the CPU and on the GPU.

On the GPU it uses WebGPU on top of Vulkan. Without a GPU, Debian's SwiftShader can take its place in tests.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from effkeras.support.console import quiet
from effkeras.support.errors import first_line
from effkeras.support.measurements import Delegation
from export.delegates.delegate import DELEGATES, UnusableError

if TYPE_CHECKING:
    import numpy as np

    from effkeras.litert.latency import Session

# The Vulkan loader that LiteRT's accelerator opens at run time, on Linux.
LOADER = "libvulkan.so.1"


@dataclass(frozen=True, eq=False, slots=True)
class Input:
    """An input buffer, and the values to write into it."""

    buffer: Any
    values: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Output:
    """An output buffer, its number of elements, and their type."""

    buffer: Any
    size: int
    dtype: np.dtype


@dataclass(frozen=True, eq=False, slots=True)
class CompiledSession:
    """A compiled model and its buffers.

    A run on a GPU returns before the work is done. Timing therefore includes writing the input, running, and
    reading every output, which waits for the result.
    """

    model: Any
    signature: str
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    flatbuffer: bytes

    def run(self) -> None:
        """Writes the input, runs, and reads every output."""
        for given in self.inputs.values():
            given.buffer.write(given.values)
        buffers = ({name: one.buffer for name, one in side.items()} for side in (self.inputs, self.outputs))
        self.model.run_by_name(self.signature, *buffers)
        for made in self.outputs.values():
            made.buffer.read(made.size, made.dtype)

    def delegation(self) -> Delegation:
        """The delegation; CompiledModel reports only whether it accelerates every operator, not how many."""
        from effkeras.litert.flatbuffer import operators

        whole, total = bool(self.model.is_fully_accelerated()), len(operators(self.flatbuffer))
        return Delegation(total, total if whole else None, 1 if whole else None, whole)


def compile_for(flatbuffer: bytes, options: Any) -> CompiledSession:
    """Compiles a file with LiteRT's options.

    Raises UnusableError, with the runtime's reason, if that fails, and EffkerasError for a corrupt file.
    """
    from ai_edge_litert.compiled_model import CompiledModel

    from effkeras.litert.verify import verified

    verified(flatbuffer)  # a damaged file could crash the process
    try:
        with quiet():
            model = CompiledModel.from_buffer(flatbuffer, options=options)
            session = _with_buffers(model, flatbuffer)
            session.run()  # first run: initialises, and logs, inside quiet()
            return session
    except (RuntimeError, ValueError, OSError) as error:
        raise UnusableError(f"CompiledModel refuses the file ({first_line(error)})") from error


def _with_buffers(model: Any, flatbuffer: bytes) -> CompiledSession:
    import numpy as np

    from effkeras.litert.latency import random_image

    key = next(iter(model.get_signature_list()))
    inputs = {
        name: Input(model.create_input_buffer_by_name(key, name), random_image(one["shape"], one["dtype"]))
        for name, one in model.get_input_tensor_details(key).items()
    }
    outputs = {
        name: Output(
            model.create_output_buffer_by_name(key, name), math.prod(one["shape"]), np.dtype(one["dtype"])
        )
        for name, one in model.get_output_tensor_details(key).items()
    }
    return CompiledSession(model, key, inputs, outputs, flatbuffer)


@dataclass(frozen=True, slots=True)
class CompiledCpu:
    """CompiledModel on the CPU with 1..n threads; it also uses XNNPACK."""

    name: str = "compiled-cpu"
    title: str = "compiled CPU"
    how_to_get: str = "pip install -U 'ai-edge-litert>=2.1'"
    takes_threads: bool = True
    in_process: bool = True

    def missing(self) -> str | None:
        """The reason if ai-edge-litert is too old to have CompiledModel, else None."""
        found = importlib.util.find_spec("ai_edge_litert.compiled_model")
        return None if found else "this ai-edge-litert has no CompiledModel"

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError if the delegate cannot run it, EffkerasError if corrupt."""
        from ai_edge_litert.compiled_model import CpuOptions, HardwareAccelerator, Options

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
    in_process: bool = True

    def missing(self) -> str | None:
        """Why it cannot run (no CompiledModel or Vulkan loader), else None; only a probe can find a GPU."""
        if not importlib.util.find_spec("ai_edge_litert.compiled_model"):
            return "this ai-edge-litert has no CompiledModel"
        return None if sys.platform != "linux" or _loads(LOADER) else f"no Vulkan loader ({LOADER})"

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError if the delegate cannot run it, EffkerasError if corrupt."""
        from ai_edge_litert.compiled_model import CpuOptions, HardwareAccelerator, Options

        accelerators = HardwareAccelerator.GPU | HardwareAccelerator.CPU
        return compile_for(flatbuffer, Options(accelerators, cpu_options=CpuOptions(num_threads=threads)))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


DELEGATES.register("compiled-gpu")(CompiledGpu())
