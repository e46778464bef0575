"""A first run of a file on a delegate in a separate process: does it work, and how much memory does it use?

A failing driver may crash its process, and in a process with several delegates the memory of one cannot be
measured.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from effkeras.support.errors import EffkerasError
from export.delegates.delegate import host_delegates

PATIENCE = 300  # seconds that loading and two runs may take
_RUNS = 2
_MODULE = "export.delegates.probe"
# proc(5): writing "5" to clear_refs resets the peak (VmHWM) to the current use.
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of a first run: the peak memory that file and delegate add, or why it failed."""

    peak_bytes: int | None = None
    failure: str | None = None


def probe_file(flatbuffer: bytes, delegate: str, threads: int) -> Probe:
    """Loads a file, runs it twice, and measures the peak memory.

    Args:
        flatbuffer: the file's content.
        delegate: the name of a delegate of this machine.
        threads: number of threads that it may use.
    """
    with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
        file, answer = Path(folder, "model.tflite"), Path(folder, "answer.json")
        file.write_bytes(flatbuffer)
        module = type(host_delegates()[delegate]).__module__  # the child imports it to register it
        words = [sys.executable, "-m", _MODULE, module, delegate, str(threads), str(file), str(answer)]
        return _answer(words, answer)


def main(argv: list[str]) -> None:
    """Runs in the child: MODULE DELEGATE THREADS FILE ANSWER; importing the module registers the delegate."""
    module, delegate, threads, file, answer = argv
    importlib.import_module(module)
    Path(answer).write_text(json.dumps(_probe(delegate, int(threads), Path(file).read_bytes())))


def _answer(words: list[str], answer: Path) -> Probe:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(failure=f"it did not finish two runs within {PATIENCE} s")
    if answer.is_file() and done.returncode == 0:
        return Probe(**json.loads(answer.read_text()))
    return Probe(failure=_crash(done.returncode, done.stderr.decode(errors="replace")))


def _crash(code: int, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process died ({how}){': ' + lines[-1] if lines else ''}"


def _probe(delegate: str, threads: int, flatbuffer: bytes) -> dict[str, int | str | None]:
    opener = host_delegates()[delegate]
    _load_libraries()
    before = _memory_now()
    try:
        session = opener.open(flatbuffer, threads)
        for _ in range(_RUNS):
            session.run()
    except (EffkerasError, RuntimeError, ValueError, OSError) as error:
        return {"failure": " ".join(str(error).split()) or type(error).__name__}
    return {"peak_bytes": max(_peak() - before, 0)}


def _load_libraries() -> None:
    """Imports LiteRT first, so that the memory counts the file and the delegate's work, not LiteRT itself."""
    for module in ("ai_edge_litert.interpreter", "ai_edge_litert.compiled_model"):
        with suppress(ImportError):
            importlib.import_module(module)


def _memory_now() -> int:
    """Bytes in use; also resets the peak where the system allows it (Linux)."""
    with suppress(OSError):
        _CLEAR.write_text("5")
        return _kilobytes("VmRSS") * 1024
    return _peak()


def _peak() -> int:
    """The peak of bytes in use."""
    with suppress(OSError):
        return _kilobytes("VmHWM") * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kilobytes(key: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main(sys.argv[1:])
