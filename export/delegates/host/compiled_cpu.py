"""LiteRT's CompiledModel on the CPU."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.delegates.delegate import DELEGATES

if TYPE_CHECKING:
    from effkeras.litert.latency import Session


@dataclass(frozen=True, slots=True)
class CompiledCpu:
    """CompiledModel on the CPU, on 1..n threads: XNNPACK underneath, behind another interface."""

    name: str = "compiled-cpu"
    title: str = "compiled CPU"
    how_to_get: str = "pip install -U 'ai-edge-litert>=2.1'"
    takes_threads: bool = True

    def missing(self) -> str | None:
        """What an older ai-edge-litert lacks."""
        found = importlib.util.find_spec("ai_edge_litert.compiled_model")
        return None if found else "this ai-edge-litert has no CompiledModel"

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError when it is not taken, EffkerasError for a corrupt one."""
        from ai_edge_litert.compiled_model import CpuOptions, HardwareAccelerator, Options

        from export.delegates.compiled import compile_for

        options = Options(HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=threads))
        return compile_for(flatbuffer, options)


DELEGATES.register("compiled-cpu")(CompiledCpu())
