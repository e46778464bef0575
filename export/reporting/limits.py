"""How far the figures of a run may move from those of an earlier one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How far figures may get worse: the metric by a difference, bytes and latencies by a share."""

    drop: float = 0.01
    growth: float = 0.05
    slowdown: float = 0.2
