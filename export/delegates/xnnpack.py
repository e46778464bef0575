"""XNNPACK: the CPU kernels that LiteRT's Interpreter uses by itself."""

from __future__ import annotations

from dataclasses import dataclass

from effkeras.litert.runner import make_interpreter
from export.delegates.delegate import Session
from export.delegates.interpreter import with_pictures


@dataclass(frozen=True, slots=True)
class Xnnpack:
    """XNNPACK in the Interpreter, on 1..n threads."""

    name: str = "xnnpack"
    title: str = "XNNPACK"
    how_to_get: str = ""  # it is always there
    takes_threads: bool = True

    def missing(self) -> str | None:
        """None: LiteRT brings it along."""
        return None

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises EffkerasError for a corrupt one."""
        return with_pictures(make_interpreter(flatbuffer, threads=threads), flatbuffer)
