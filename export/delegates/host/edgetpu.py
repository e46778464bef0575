"""The Edge TPU of a Coral board or USB accelerator, through its delegate library."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from effkeras.support.console import quiet
from effkeras.support.measurements import Delegation
from export.delegates.delegate import DELEGATES, UnusableError

if TYPE_CHECKING:
    from effkeras.litert.latency import Session

# Library names from Coral's documentation (https://coral.ai/docs/edgetpu/tflite-python/).
LIBRARIES = {"linux": "libedgetpu.so.1", "darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}


@dataclass(frozen=True, eq=False, slots=True)
class EdgeTpuSession:
    """An interpreter whose compiled part runs on the Edge TPU; both counts are of the compiled file."""

    inner: Session
    compiled_ops: int
    total_ops: int

    def run(self) -> None:
        """Runs one inference."""
        self.inner.run()

    def delegation(self) -> Delegation:
        """The delegation; the compiler turns each partition that maps into a single operator."""
        whole = self.compiled_ops == self.total_ops
        return Delegation(self.total_ops, self.compiled_ops, self.compiled_ops, whole)


@dataclass(frozen=True, slots=True)
class EdgeTpu:
    """The Edge TPU; it runs files that edgetpu_compiler has compiled."""

    name: str = "edgetpu"
    title: str = "Edge TPU"
    how_to_get: str = (
        "plug in the accelerator and install its runtime, libedgetpu1-std, from Google's apt repository "
        "(https://coral.ai/docs/accelerator/get-started/)"
    )
    takes_threads: bool = False
    in_process: bool = True

    def missing(self) -> str | None:
        """The reason if the delegate library is not installed, else None."""
        library = _library()
        try:
            ctypes.CDLL(library)
        except OSError:
            return f"{library} is not installed"
        return None

    def open(self, flatbuffer: bytes, threads: int) -> Session:
        """Loads a file. Raises UnusableError when it is not compiled or no device is found."""
        from effkeras.litert.edge_tpu import COMPILED
        from effkeras.litert.flatbuffer import operators
        from effkeras.litert.latency import InterpreterSession

        graph = operators(flatbuffer)
        compiled = sum(op.name == COMPILED for op in graph)
        if not compiled:
            raise UnusableError(
                "the file is not compiled for the Edge TPU; run edgetpu_compiler on it, or "
                "`effkeras export preflight FILE --compile COMPILED.tflite`"
            )
        session = InterpreterSession.of(_interpreter(flatbuffer, threads), flatbuffer)
        return EdgeTpuSession(session, compiled, len(graph))


def _interpreter(flatbuffer: bytes, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter, load_delegate

    try:
        with quiet():
            delegate = load_delegate(_library())
            made = Interpreter(
                model_content=flatbuffer, num_threads=threads, experimental_delegates=[delegate]
            )
            made.allocate_tensors()
    except (ValueError, RuntimeError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split()) or "no device found"
        raise UnusableError(f"the Edge TPU does not take the file ({reason})") from error
    return made


def _library() -> str:
    return LIBRARIES.get(sys.platform, "libedgetpu.so.1")


DELEGATES.register("edgetpu")(EdgeTpu())
