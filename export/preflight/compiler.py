"""Runs `edgetpu_compiler` if it is installed, parses its log, and compares it with the table.

Logs of versions 2 to 16 are known.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from export.preflight.verdicts import Preflight, Verdict

MAPPED = "Mapped to Edge TPU"

_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_LINE = re.compile(r"^([A-Za-z][\w-]*)[ \t]+(\d+)[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_CACHED = re.compile(r"On-chip memory used for caching model parameters: ([\d.]+)([KMG]?i?B)")
_LEFT = re.compile(
    r"On-chip memory (?:remaining|available) for caching model parameters: ([\d.]+)([KMG]?i?B)"
)
_STREAMED = re.compile(r"Off-chip memory used for streaming uncached model parameters: ([\d.]+)([KMG]?i?B)")
_SUBGRAPHS = re.compile(r"Number of Edge TPU subgraphs: (\d+)")
_SUCCESS = re.compile(r"Model compiled successfully in")
_TABLE = re.compile(r"^Operator[ \t]+Count[ \t]+Status", re.MULTILINE)
_ERRORS = (
    re.compile(r"Compilation failed: (.+)"),
    re.compile(r"ERROR: (Didn't find op .+?)(?:\. An older.*)?$", re.MULTILINE),
    re.compile(r"Invalid model: .*\n\s*(.+)"),
    re.compile(r"(Internal compiler error)"),
    re.compile(r"ERROR: (.+)"),
)
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
COMMAND = "edgetpu_compiler"
HOW_TO_GET = (
    "it is Google's, for Linux on x86-64 only: add its apt repository and install edgetpu-compiler, "
    "or use its Colab notebook (https://coral.ai/docs/edgetpu/compiler/)"
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A number of operators of one kind, and their status in the compiler's words."""

    op: str
    count: int
    status: str

    @property
    def maps(self) -> bool:
        """Whether the Edge TPU runs them."""
        return self.status == MAPPED


@dataclass(frozen=True, slots=True)
class CompilerLog:
    """A parsed log; memory is in bytes, None if the log does not state it.

    `cached` and `streamed` are weights kept on the chip and streamed in, `left` the free memory on the chip.
    `error` is the reason if there is no result.
    """

    version: str
    lines: tuple[LogLine, ...]
    cached: int | None
    left: int | None
    streamed: int | None
    subgraphs: int | None
    error: str | None

    @property
    def too_large(self) -> bool:
        """Whether it failed because activations do not fit into memory."""
        return self.error is not None and "large activation tensors" in self.error

    def to_row(self) -> dict[str, Any]:
        """The log as a plain record."""
        return {
            "version": self.version,
            "ops": [{"op": one.op, "count": one.count, "status": one.status} for one in self.lines],
            "cached": self.cached,
            "left_on_chip": self.left,
            "streamed": self.streamed,
            "partitions": self.subgraphs,
            "error": self.error,
        }


def read_log(output: str, written: str = "", code: int = 0) -> CompilerLog:
    """Parses a log.

    Args:
        output: the compiler's output; only its last attempt counts.
        written: the log file beside the result; older versions list the operators only there.
        code: the exit code.
    """
    last = output[output.rfind("Try to compile segment") :] if "Try to compile segment" in output else output
    return CompilerLog(
        version=_first(_VERSION, output) or _first(_VERSION, written) or "",
        lines=_lines(last) or _lines(written),
        cached=_bytes(_CACHED, last),
        left=_bytes(_LEFT, last),
        streamed=_bytes(_STREAMED, last),
        subgraphs=_whole(_first(_SUBGRAPHS, last)),
        error=_error(last, code),
    )


def _error(output: str, code: int) -> str | None:
    if _SUCCESS.search(output):
        return None
    for pattern in _ERRORS:
        if found := _first(pattern, output):
            return found.strip().rstrip(".")
    return f"it ended with code {code} and made nothing"


def _lines(text: str) -> tuple[LogLine, ...]:
    table = _TABLE.search(text)
    if table is None:
        return ()
    rows = (LogLine(op, int(count), status) for op, count, status in _LINE.findall(text[table.end() :]))
    return tuple(rows)


def _bytes(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return round(float(found[1]) * _UNITS.get(found[2], 1)) if found else None


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[1] if found else None


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)


@dataclass(frozen=True, slots=True)
class Absent:
    """The compiler is not installed."""

    passed: bool = True

    def lines(self, found: Preflight) -> Iterator[tuple[str, str]]:
        """Names and values for the summary."""
        yield COMMAND, f"not installed; {HOW_TO_GET}"

    def to_row(self, found: Preflight) -> dict[str, Any]:
        """A plain record that says that the compiler is absent."""
        return {"compiler": None}


@dataclass(frozen=True, slots=True)
class Compiled:
    """The compiler's findings for a file; `kept` is the path of its output, if it was written."""

    log: CompilerLog
    kept: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether it compiled the file and mapped every operator."""
        return self.log.error is None and bool(self.log.lines) and all(one.maps for one in self.log.lines)

    def differences(self, found: Preflight) -> list[str]:
        """Kinds of operators for which the compiler and the table map different numbers."""
        ours = Counter(_logged_name(one) for one in found.verdicts if one.on_device)
        theirs = Counter({one.op: 0 for one in self.log.lines})
        for one in self.log.lines:
            theirs[one.op] += one.count if one.maps else 0
        return [
            f"{op}: the compiler maps {theirs[op]}, the table {ours[op]}{self._why(op)}"
            for op in theirs
            if theirs[op] != ours[op]
        ]

    def lines(self, found: Preflight) -> Iterator[tuple[str, str]]:
        """Names and values for the summary."""
        yield COMMAND, f"version {self.log.version or 'unknown'}"
        if self.log.error is not None:
            yield "it says", self.log.error
            return
        counts = [sum(one.count for one in self.log.lines if one.maps == maps) for maps in (True, False)]
        yield "it maps", f"{counts[0]} of {sum(counts)} operators, {self.log.subgraphs} partition(s)"
        for one in self.log.lines:
            if not one.maps:
                yield "it leaves", f"{one.count} {one.op}: {one.status}"
        if self.log.cached is not None and self.log.streamed is not None:
            cached, streamed = self.log.cached / 1e6, self.log.streamed / 1e6
            yield "its weights", f"{cached:.1f} MB on the chip, {streamed:.1f} MB stream in at every run"
        differences = self.differences(found)
        yield "the table", "agrees on every kind of operator" if not differences else "differs"
        yield from (("it differs in", one) for one in differences)
        if self.kept is not None:
            yield "written", str(self.kept)

    def to_row(self, found: Preflight) -> dict[str, Any]:
        """The compiler's findings as a plain record."""
        row: dict[str, Any] = {**self.log.to_row(), "passed": self.passed}
        if self.log.error is None:
            row["differences"] = self.differences(found)
        return {"compiler": row if self.kept is None else {**row, "file": str(self.kept)}}

    def _why(self, op: str) -> str:
        reasons = [one.status for one in self.log.lines if one.op == op and not one.maps]
        return f" ({'; '.join(reasons)})" if reasons else ""


def compiled(flatbuffer: bytes, name: str, out: Path | None = None, timeout: int = 600) -> Compiled | Absent:
    """Compiles a file for the Edge TPU, if the compiler is on PATH.

    If activations are too large, it compiles again with `--search_delegate`, which leaves the last operators
    to the CPU.

    Args:
        flatbuffer: the file's content.
        name: the name of the file in the log.
        out: where to write the compiled file, with the metadata that the compiler drops.
        timeout: seconds that it may take.

    Raises:
        EffkerasError: the compiler takes too long or cannot be started; or `out` is given and the compiler is
            absent or makes no file.
    """
    command = shutil.which(COMMAND)
    if command is None:
        if out is not None:
            raise EffkerasError(f"{COMMAND} is not installed: {HOW_TO_GET}")
        return Absent()
    with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
        source = Path(folder) / f"{name or 'model'}.tflite"
        source.write_bytes(flatbuffer)
        log = _compile([command], source, timeout)
        if log.too_large:
            note("its activations are too large at once: searching for a cut with --search_delegate")
            log = _compile([command, "--search_delegate"], source, timeout)
        result = source.with_name(f"{source.stem}_edgetpu.tflite")
        return Compiled(log, None if out is None else _keep(result, flatbuffer, log, out))


def _keep(result: Path, original: bytes, log: CompilerLog, out: Path) -> Path:
    if not result.is_file():
        raise EffkerasError(f"{COMMAND} made no file: {log.error or 'it does not say why'}")
    _write_with_metadata(out, result.read_bytes(), original)
    return out


def _write_with_metadata(out: Path, result: bytes, original: bytes) -> None:
    """Writes the compiled file with the metadata that the compiler drops."""
    from export.metadata import restore
    from export.metadata.attaching import write_checked

    write_checked(out, restore(result, original), original)


def _compile(command: Sequence[str], source: Path, timeout: int) -> CompilerLog:
    folder = source.parent
    words = [*command, "--show_operations", "--out_dir", str(folder), str(source)]
    try:
        # A new session (and process group): it compiles in a child process, which must end with it.
        process = subprocess.Popen(
            words,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise EffkerasError(f"cannot start {command[0]}: {error.strerror}") from error
    output = _output_of(process, timeout)
    written = source.with_name(f"{source.stem}_edgetpu.log")
    aside = written.read_text(errors="replace") if written.is_file() else ""
    return read_log(output, aside, process.returncode)


def _output_of(process: subprocess.Popen[bytes], timeout: int) -> str:
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise EffkerasError(
            f"{COMMAND} took longer than {timeout} s; give it more with --timeout, or leave it out with "
            "--no-compiler"
        ) from error
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return output.decode(errors="replace")


def _logged_name(one: Verdict) -> str:
    """The name of an operator in the log, where every custom operator is CUSTOM."""
    return "CUSTOM" if one.is_custom else one.op
