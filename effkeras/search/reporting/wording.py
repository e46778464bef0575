"""Figures and names of searches as people read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from effkeras.search.genomes import Choice

_COSTS = {
    "macs": "multiply-adds",
    "parameters": "parameters",
    "bytes": "bytes of the .tflite",
    "latency_ms": "latency (ms)",
}
_TABLE = "table:"


def cost_name(cost: str) -> str:
    """A cost in words."""
    if cost.startswith(_TABLE):
        return f"latency (ms) by {Path(cost.removeprefix(_TABLE)).name}"
    return _COSTS.get(cost, cost)


def slug(cost: str) -> str:
    """A cost as part of a file name."""
    name = Path(cost).stem if cost.startswith(_TABLE) else cost
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "cost"


def amount(value: float) -> str:
    """A cost's value: whole numbers in full, others with four digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def choice(value: Choice) -> str:
    """A choice as TOML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    """A time of seconds in hours, minutes and seconds."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole} s" if whole >= 10 else f"{seconds:.1f} s"


def command(words: Iterable[object]) -> str:
    """Words as a line for a shell."""
    return shlex.join(map(str, words))
