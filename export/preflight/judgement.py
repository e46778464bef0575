"""Judges the operators of a .tflite by a table, and finds what runs on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from effkeras.litert.costs import multiply_adds
from effkeras.litert.flatbuffer import layer_of
from effkeras.litert.nodes import Node, nodes
from effkeras.support.errors import EffkerasError
from export.preflight.partition import Partition, partitions
from export.preflight.rules import RULES
from export.preflight.tables import OpTable, Rule, table_of

Status = Literal["maps", "may not map", "does not map", "after the partition"]

NOT_LISTED = "operator not supported"
LIST = "list"  # every table has this source: the list of operators


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an operator does not map, or may not.

    `source` is the key of who says so in the table's sources, `helps` what to do about it.
    """

    text: str
    source: str
    helps: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one operator.

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
        """Whether the device runs it, as far as the table knows."""
        return self.status in ("maps", "may not map")

    @property
    def why(self) -> str:
        """All reasons in one line."""
        return "; ".join(dict.fromkeys(reason.text for reason in self.reasons))


@dataclass(frozen=True, slots=True)
class Memory:
    """Weights of the partition, in bytes: how many stay on the chip, how many stream in at every run."""

    weights: int
    capacity: int

    @property
    def cached(self) -> int:
        """Bytes on the chip."""
        return min(self.weights, self.capacity)

    @property
    def streamed(self) -> int:
        """Bytes that are sent for every image."""
        return self.weights - self.cached


@dataclass(frozen=True, slots=True)
class Preflight:
    """A file as a device will see it.

    `verdicts` are in the order of execution; `pieces` counts the partitions that the device could run one
    by one; `memory` is None where weights need not fit.
    """

    target: str
    table: OpTable
    verdicts: tuple[Verdict, ...]
    pieces: int
    memory: Memory | None

    @property
    def passed(self) -> bool:
        """Whether the device runs every operator."""
        return bool(self.verdicts) and all(one.on_device for one in self.verdicts)

    @property
    def doubts(self) -> tuple[Verdict, ...]:
        """Operators that the device may refuse for reasons that nobody documents."""
        return tuple(one for one in self.verdicts if one.status == "may not map")

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do about the operators that do not map."""
        refused = (reason for one in self.verdicts for reason in one.reasons if one.status == "does not map")
        return tuple(dict.fromkeys(reason.helps for reason in refused if reason.helps))

    @property
    def op_share(self) -> float:
        """The part of the operators that the device runs, 0..1."""
        return sum(one.on_device for one in self.verdicts) / max(len(self.verdicts), 1)

    @property
    def mac_share(self) -> float:
        """The part of the multiply-adds that the device runs, 0..1."""
        total = sum(one.macs for one in self.verdicts)
        return sum(one.macs for one in self.verdicts if one.on_device) / max(total, 1)

    @property
    def end(self) -> Verdict | None:
        """The first operator that the device does not take; None when it takes all."""
        return next((one for one in self.verdicts if one.status == "does not map"), None)

    def summary(self) -> str:
        """One line for a report."""
        mapped = sum(one.on_device for one in self.verdicts)
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


def check_for(flatbuffer: bytes, target: str) -> Preflight:
    """Judges a .tflite for a target, "edgetpu" or "gpu".

    Raises EffkerasError for a corrupt file, and for a target that there is no table of.
    """
    table = table_of(target)
    graph = nodes(flatbuffer)
    findings = [_findings(node, table) for node in graph]
    pieces = partitions(graph, [not found.refused for found in findings])
    kept = _kept(pieces, graph, table.device.partition)
    verdicts = tuple(
        _verdict(node, found, node.op.index in kept) for node, found in zip(graph, findings, strict=True)
    )
    memory = Memory(_weights(graph, kept), table.device.weights) if table.device.weights else None
    return Preflight(target, table, verdicts, sum(piece.taken for piece in pieces), memory)


@dataclass(frozen=True, slots=True)
class _Findings:
    """The broken rules of one operator."""

    refused: tuple[Reason, ...]
    doubtful: tuple[Reason, ...]


def _findings(node: Node, table: OpTable) -> _Findings:
    if node.name not in table.operators or node.is_custom:
        return _Findings((Reason(NOT_LISTED, LIST, table.device.advice),), ())
    rules = (*table.everywhere, *table.operators[node.name])
    refused = _broken(node, [rule for rule in rules if not rule.doubt])
    return _Findings(refused, () if refused else _broken(node, [rule for rule in rules if rule.doubt]))


def _broken(node: Node, rules: Iterable[Rule]) -> tuple[Reason, ...]:
    found = ((_why(rule, node), rule) for rule in rules)
    return tuple(Reason(why, rule.source, rule.helps) for why, rule in found if why is not None)


def _why(rule: Rule, node: Node) -> str | None:
    try:
        return RULES[rule.name](node, rule.limits)
    except (IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _damaged(node) from error


def _kept(pieces: Sequence[Partition], graph: Sequence[Node], which: str) -> frozenset[int]:
    """Indices of the operators in the one partition that the device runs."""
    taken = [piece for piece in pieces if piece.taken]
    if not taken:
        return frozenset()
    if which == "first":
        return taken[0].operators
    costs = {node.op.index: _macs(node) + 1 for node in graph}
    return max(taken, key=lambda piece: sum(costs[index] for index in piece.operators)).operators


def _verdict(node: Node, found: _Findings, kept: bool) -> Verdict:
    return Verdict(
        index=node.op.index,
        op=node.name,
        is_custom=node.is_custom,
        layer=layer_of(node.outputs[0].info.name) if node.outputs else "",
        status=_status(found, kept),
        reasons=found.refused or (found.doubtful if kept else ()),
        macs=_macs(node),
    )


def _status(found: _Findings, kept: bool) -> Status:
    if found.refused:
        return "does not map"
    if not kept:
        return "after the partition"
    return "may not map" if found.doubtful else "maps"


def _macs(node: Node) -> int:
    try:
        return multiply_adds(node.op)
    except (IndexError, TypeError, ValueError) as error:
        raise _damaged(node) from error


def _weights(graph: Sequence[Node], kept: frozenset[int]) -> int:
    """Bytes of the constants that the partition needs; what several operators share counts once."""
    sizes = {
        id(tensor.data) if tensor.data is not None else tensor.info.index: tensor.size
        for node in graph
        if node.op.index in kept
        for tensor in node.constants
    }
    return sum(sizes.values())


def _damaged(node: Node) -> EffkerasError:
    return EffkerasError(
        f"the .tflite is damaged: operator {node.op.index} ({node.name}) lacks what it needs; "
        "export the model again"
    )


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
