"""Parses the output of TensorFlow Lite's `benchmark_model`, all versions since 2019.

Source: tensorflow/lite/tools/benchmark/benchmark_model.cc and profiling/profile_summary_formatter.cc. Lines
may have a prefix ("INFO: ", logcat's time and tag). Times are in microseconds, integers or like 1.24e+06.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_END = re.compile(r"inference timings in us", re.IGNORECASE)
_COUNT = re.compile(r"\bcount=\d{1,9} .*")
_PAIR = re.compile(r"\b([a-z]\w*)=([\d.]+(?:e[+-]?\d+)?)")
_INIT = re.compile(r"\bInit: ([\d.e+]+)")
_PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: ([\d.]+)")
_OVERALL = re.compile(r"(?:Memory footprint delta|Peak memory footprint).*\boverall=([\d.]+)")
_VERSION = re.compile(r"Tensorflow Version : (\S+)", re.IGNORECASE)
_REPLACING = re.compile(
    r"Replacing (\d+) (?:out of (\d+) )?node\(s\) with delegate \((.*?)\) node, yielding (\d+) partitions"
)
_APPLIED = re.compile(
    r"\b(?:Explicitly a|A)pplied (\S+) delegate(?:, and the model graph will be (completely|partially)|\.$)",
    re.MULTILINE,
)
_KERNELS = re.compile(r"partially executed by the delegate w/ (\d+) delegate kernels")
_NOT_APPLIED = re.compile(
    r"Though (\S+) delegate is explicitly applied, the model graph will not be executed"
)
_UNKNOWN = re.compile(r"Unconsumed cmdline flags: (.*\S)")
_PREFIX = re.compile(r"^.*?\b(?:ERROR: |WARN: |E tflite\s*: )")
_FAILURES = re.compile(
    r"ERROR: |\bE tflite\s*: |Benchmarking failed|unsupported on this platform|[Ff]ailed to |"
    r"CANNOT LINK EXECUTABLE|not executable|Segmentation fault|Aborted|Killed|No such file|"
    r"Permission denied|not found"
)
_CONSEQUENCES = ("Benchmarking failed", "Failed to construct interpreter", "Failed to initialize")
_OPERATORS = "Operator-wise Profiling Info"
_RUN_ORDER, _NEXT_TABLE = "Run Order", "Top by Computation Time"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Number and times (microseconds) of one call's timed runs. Older versions print no median and p95."""

    count: int
    min_us: float
    mean_us: float
    median_us: float | None = None
    p95_us: float | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """A delegate that took part of the graph: its name in the log, and its share if the log states it."""

    name: str
    nodes: int | None = None
    partitions: int | None = None
    whole: bool | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """An operator in the profile; `ms` is its mean time in one inference."""

    kind: str
    name: str
    ms: float


@dataclass(frozen=True, slots=True)
class BenchmarkLog:
    """The parsed output of one `benchmark_model` call; `statistics` is None if it had no timed runs."""

    statistics: Statistics | None
    init_us: float | None
    memory_mb: float | None
    version: str | None
    applied: tuple[Applied, ...]
    refused: tuple[str, ...]
    unknown_flags: tuple[str, ...]
    nodes: tuple[Node, ...]
    complaint: str | None

    @property
    def error(self) -> str | None:
        """The reason why there are no statistics; None when there are."""
        return None if self.statistics else self.complaint or "it printed nothing"


def read_log(text: str) -> BenchmarkLog:
    """Parses the output of one call, stdout and stderr together; missing values are None or empty."""
    text = text.replace("\r", "")
    statistics = _statistics(text)
    return BenchmarkLog(
        statistics,
        init_us=_number(_INIT, text),
        memory_mb=_number(_PEAK, text) or _number(_OVERALL, text),
        version=_first(_VERSION, text),
        applied=tuple(_applied(text)),
        refused=tuple(match[1] for match in _NOT_APPLIED.finditer(text)),
        unknown_flags=tuple(flag for match in _UNKNOWN.finditer(text) for flag in match[1].split()),
        nodes=tuple(_nodes(text)),
        complaint=_complaint(text) or (None if statistics else _last_line(text)),
    )


def failed(reason: str) -> BenchmarkLog:
    """The log of a call that could not be made."""
    return BenchmarkLog(None, None, None, None, (), (), (), (), reason)


def _statistics(text: str) -> Statistics | None:
    """The last statistics before the summary: earlier ones are of the warm-up, later ones of the profile."""
    end = _END.search(text)
    found = _COUNT.findall(text[: end.start()]) if end else []
    return _of_pairs(dict(_PAIR.findall(found[-1]))) if found else None


def _of_pairs(pairs: Mapping[str, str]) -> Statistics | None:
    """Statistics from key=value pairs; with one run, or runs of equal length, the log has only `curr`."""
    values = {key: _float(value) for key, value in pairs.items()}
    one = values.get("curr")
    low, mean = values.get("min", one), values.get("avg", one)
    if low is None or mean is None:
        return None
    return Statistics(int(values["count"]), low, mean, values.get("median"), values.get("p95"))


def _applied(text: str) -> Iterator[Applied]:
    for match in _REPLACING.finditer(text):
        nodes, total, name, partitions = match.groups()
        yield Applied(name, int(nodes), int(partitions), None if total is None else nodes == total)
    for match in _APPLIED.finditer(text):
        line = text[match.start() : text.find("\n", match.start())]
        kernels = _first(_KERNELS, line)
        whole = match[2] == "completely" if match[2] else None
        yield Applied(match[1], None, 1 if whole else None if kernels is None else int(kernels), whole)


def _nodes(text: str) -> Iterator[Node]:
    """Operators of the first "Run Order" table after the heading; versions before 2.2 lack the heading."""
    start = text.find(_OPERATORS)
    start = text.find(_RUN_ORDER, start if start >= 0 else 0)
    if start < 0:
        return
    lines = text[start : text.find(_NEXT_TABLE, start)].splitlines()[1:]
    heading: list[str] = []
    for line in lines:
        cells = [cell.strip() for cell in line.split("\t") if cell.strip()]
        if cells[:1] == ["[node type]"]:
            heading = cells
        elif heading and len(cells) >= len(heading) - 1:
            yield _node(dict(zip(heading, cells, strict=False)))


def _node(row: Mapping[str, Any]) -> Node:
    name = row.get("[Name]", "").rpartition(":")[0].strip("[]")
    return Node(row["[node type]"], name, _float(row.get("[avg ms]", "")))


def _float(text: str) -> float:
    """The number in a text; 0 when it cannot be parsed."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _complaint(text: str) -> str | None:
    """The first line that reports a failure; lines with mere consequences of one are the last choice."""
    failures = [line.strip() for line in text.splitlines() if _FAILURES.search(line)]
    causes = [line for line in failures if not any(word in line for word in _CONSEQUENCES)]
    lines = causes or failures
    return _PREFIX.sub("", lines[0]).rstrip(".") if lines else None


def _last_line(text: str) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


def _number(pattern: re.Pattern[str], text: str) -> float | None:
    found = _first(pattern, text)
    return None if found is None else _float(found)


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None
