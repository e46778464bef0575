"""LiteRT's Interpreter on the CPU: with XNNPACK, its default, and with its built-in kernels ("plain")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.delegates.delegate import DELEGATES

if TYPE_CHECKING:
    from effkeras.litert.latency import Session


@dataclass(frozen=True, slots=True)
class InterpreterCpu:
    """The Interpreter's CPU kernels with 1..n threads; `xnnpack` lets XNNPACK run what it supports."""

    name: str
    title: str
    xnnpack: bool
    how_to_get: str = ""  # always present
    takes_threads: bool = True
    in_process: bool = True

    def missing(self) -> str | None:
        """None: these kernels are part of LiteRT."""
        return None

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises EffkerasError for a corrupt one."""
        from effkeras.litert.latency import InterpreterSession
        from effkeras.litert.runner import make_interpreter

        interpreter = make_interpreter(flatbuffer, threads=threads, xnnpack=self.xnnpack)
        return InterpreterSession.of(interpreter, flatbuffer)


XNNPACK = DELEGATES.register("xnnpack")(InterpreterCpu("xnnpack", "XNNPACK", xnnpack=True))
PLAIN = DELEGATES.register("plain")(InterpreterCpu("plain", "plain", xnnpack=False))
