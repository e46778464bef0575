"""The result of a pre-flight: a verdict on each operator, and the shares that a device runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from export.preflight.tables import OpTable

Status = Literal["maps", "may not map", "does not map", "after the partition"]


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason why an operator does not map, or may not map.

    `source` is a key of the table's sources; `helps` is advice on what to do.
    """

    text: str
    source: str
    helps: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the device runs one operator.

    `layer` is the Keras layer that it comes from; `macs` are its multiply-adds.
    """

    index: int
    op: str
    is_custom: bool
    layer: str
    status: Status
    reasons: tuple[Reason, ...]
    macs: int

    @property
    def on_device(self) -> bool:
        """Whether the device runs it; operators that may not map count as mapped."""
        return self.status in ("maps", "may not map")

    @property
    def why(self) -> str:
        """All reasons in one line."""
        return "; ".join(dict.fromkeys(reason.text for reason in self.reasons))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the partition's weights and of on-chip memory for them; the rest streams in at every run."""

    weights: int
    capacity: int

    @property
    def cached(self) -> int:
        """Bytes that stay on the chip."""
        return min(self.weights, self.capacity)

    @property
    def streamed(self) -> int:
        """Bytes that stream in at every run."""
        return self.weights - self.cached


@dataclass(frozen=True, slots=True)
class Preflight:
    """The pre-flight of a file for one device.

    `verdicts` are in the order of execution. `pieces` is the number of partitions that the device could run.
    `memory` is None where on-chip memory does not apply. `is_compiled` marks a file that the compiler
    of the device made: what the device runs is one operator, whose content is not known.
    """

    target: str
    table: OpTable
    verdicts: tuple[Verdict, ...]
    pieces: int
    memory: Memory | None
    is_compiled: bool = False

    @property
    def passed(self) -> bool:
        """Whether the device runs every operator."""
        return bool(self.verdicts) and all(one.on_device for one in self.verdicts)

    @property
    def doubts(self) -> tuple[Verdict, ...]:
        """Operators that the device may refuse, by an undocumented rule."""
        return tuple(one for one in self.verdicts if one.status == "may not map")

    @property
    def advice(self) -> tuple[str, ...]:
        """Advice on the operators that do not map."""
        refused = (reason for one in self.verdicts for reason in one.reasons if one.status == "does not map")
        return tuple(dict.fromkeys(reason.helps for reason in refused if reason.helps))

    @property
    def op_share(self) -> float:
        """The share of the operators that the device runs, 0..1."""
        return sum(one.on_device for one in self.verdicts) / max(len(self.verdicts), 1)

    @property
    def mac_share(self) -> float:
        """The share of the multiply-adds that the device runs, 0..1."""
        total = sum(one.macs for one in self.verdicts)
        return sum(one.macs for one in self.verdicts if one.on_device) / max(total, 1)

    @property
    def end(self) -> Verdict | None:
        """The first operator behind the device's first that does not map; None when all do.

        Where the device runs none, it is the first of all.
        """
        start = next((place for place, one in enumerate(self.verdicts) if one.on_device), 0)
        return next((one for one in self.verdicts[start:] if one.status == "does not map"), None)

    def summary(self) -> str:
        """One line for a report."""
        mapped = sum(one.on_device for one in self.verdicts)
        if self.is_compiled:
            return f"compiled already; {len(self.verdicts) - mapped} operators are left to the CPU"
        ops = f"{mapped} of {len(self.verdicts)} ops, {self.mac_share:.0%} of MACs"
        parts = [ops, *self._trouble()]
        return "; ".join(parts)

    def _trouble(self) -> Iterable[str]:
        if self.end is not None:
            yield f"ends at {self.end.op} ({self.end.layer}): {self.end.why}"
        if self.doubts:
            yield f"{len(self.doubts)} may not map"
        if self.memory is not None and self.memory.streamed:
            yield f"{self.memory.streamed / 1e6:.1f} MB of weights stream in"

    def to_row(self) -> dict[str, Any]:
        """The pre-flight as a plain record."""
        return {
            "target": self.target,
            "judged_by": self.table.device.judged_by,
            "compiled": self.is_compiled,
            "passed": self.passed,
            "operators": len(self.verdicts),
            "on_device": sum(one.on_device for one in self.verdicts),
            "may_not_map": len(self.doubts),
            "op_share": round(self.op_share, 4),
            "macs": sum(one.macs for one in self.verdicts),
            "mac_share": round(self.mac_share, 4),
            "partitions": self.pieces,
            **_memory_row(self.memory),
            "ops": [_row(one, self.table) for one in self.verdicts],
        }


def _memory_row(memory: Memory | None) -> dict[str, int]:
    if memory is None:
        return {}
    return {"weights": memory.weights, "cached": memory.cached, "streamed": memory.streamed}


def _row(one: Verdict, table: OpTable) -> dict[str, Any]:
    row = {"index": one.index, "op": one.op, "layer": one.layer, "status": one.status, "macs": one.macs}
    if not one.reasons:
        return row
    urls = dict.fromkeys(table.sources[reason.source].url for reason in one.reasons)
    return {**row, "why": one.why, "sources": list(urls)}
