"""Parses the log of `edgetpu_compiler`, versions 2 to 16."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

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
