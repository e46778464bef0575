"""The CPU in LiteRT's Interpreter: with XNNPACK, which it uses by itself, and with its plain kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.delegates.delegate import DELEGATES

if TYPE_CHECKING:
    from effkeras.litert.latency import Session


@dataclass(frozen=True, slots=True)
class InterpreterCpu:
    """Kernels of the Interpreter on 1..n threads; `xnnpack` lets XNNPACK take what it can."""

    name: str
    title: str
    xnnpack: bool
    how_to_get: str = ""  # they are always there
    takes_threads: bool = True

    def missing(self) -> str | None:
        """None: LiteRT brings them along."""
        return None

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises EffkerasError for a corrupt one."""
        from effkeras.litert.latency import InterpreterSession
        from effkeras.litert.runner import make_interpreter

        interpreter = make_interpreter(flatbuffer, threads=threads, xnnpack=self.xnnpack)
        return InterpreterSession.of(interpreter, flatbuffer)


XNNPACK = DELEGATES.register("xnnpack")(InterpreterCpu("xnnpack", "XNNPACK", xnnpack=True))
PLAIN = DELEGATES.register("plain")(InterpreterCpu("plain", "plain", xnnpack=False))
