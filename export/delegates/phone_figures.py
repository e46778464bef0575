"""What the logs of `benchmark_model` tell of a job: whether its accelerator ran it, and its figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from effkeras.litert.flatbuffer import operators
from effkeras.litert.latency import Plan
from effkeras.support.measurements import Delegation, Latency
from export.delegates.accelerators import Accelerator
from export.delegates.benchmark_log import BenchmarkLog
from export.delegates.timing import Job


def failure(log: BenchmarkLog, accelerator: Accelerator) -> str | None:
    """Why the figures of a log are not those of the accelerator; the tool itself falls back to the CPU."""
    if log.error is not None:
        return log.error
    unknown = [flag for flag in accelerator.flags if flag in log.unknown_flags]
    if unknown:
        return f"this benchmark binary does not know {unknown[0]}"
    if any(name in log.refused for name in accelerator.logged):
        return "it takes no operator of this file"
    if any(one.name in accelerator.logged for one in log.applied):
        return None
    return log.complaint or "the log does not say that it was used"


def latency(
    job: Job,
    accelerator: Accelerator,
    plan: Plan,
    logs: Sequence[BenchmarkLog],
    details: Mapping[str, Any],
) -> Latency:
    """Of all turns: the shortest, the mean of all runs, and the medians of the turns' medians and p95."""
    turns = [log.statistics for log in logs if log.statistics is not None]
    runs = sum(one.count for one in turns)
    mean = sum(one.mean_us * one.count for one in turns) / runs
    medians = [one.median_us for one in turns if one.median_us is not None]
    p95s = [one.p95_us for one in turns if one.p95_us is not None]
    return Latency(
        accelerator.name,
        accelerator.title,
        job.threads,
        plan.runs,
        plan.warmup,
        min(one.min_us for one in turns) / 1e3,
        mean / 1e3,
        statistics.median(medians) / 1e3 if medians else None,
        statistics.median(p95s) / 1e3 if p95s else None,
        delegation(logs[0], accelerator, job.flatbuffer),
        peak_bytes(logs),
        details,
    )


def delegation(log: BenchmarkLog, accelerator: Accelerator, flatbuffer: bytes) -> Delegation:
    """What the lines of a log about the delegate say, together."""
    own = [one for one in log.applied if one.name in accelerator.logged]
    total = len(operators(flatbuffer))
    whole = next((one.whole for one in own if one.whole is not None), None)
    nodes = next((one.nodes for one in own if one.nodes is not None), total if whole else None)
    partitions = next((one.partitions for one in own if one.partitions is not None), None)
    return Delegation(total, nodes, partitions, whole)


def peak_bytes(logs: Sequence[BenchmarkLog]) -> int | None:
    """The most memory of all turns."""
    memory = [log.memory_mb for log in logs if log.memory_mb is not None]
    return round(max(memory) * 2**20) if memory else None


def details(logs: Sequence[BenchmarkLog], profile: BenchmarkLog) -> dict[str, Any]:
    """What else a row tells: time of loading, the tool's version, milliseconds by operator."""
    loading = [log.init_us for log in logs if log.init_us is not None]
    nodes = [{"op": one.kind, "name": one.name, "ms": one.ms} for one in profile.nodes]
    return {
        "turns": len(logs),
        "load_ms": statistics.median(loading) / 1e3 if loading else None,
        "benchmark_version": logs[0].version,
        "profile": nodes,
    }
