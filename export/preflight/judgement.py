"""Checks the operators of a .tflite against a table, and finds the partition that the device runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from effkeras.litert.flatbuffer import layer_of, multiply_adds
from effkeras.litert.nodes import Node, nodes
from effkeras.support.errors import EffkerasError
from export.preflight.rules import RULES
from export.preflight.tables import OpTable, Rule, table_of
from export.preflight.verdicts import Memory, Preflight, Reason, Status, Verdict

NOT_LISTED = "operator not supported"
LEFT_TO_THE_CPU = "the compiler left it to the CPU"
LIST = "list"  # every table has this source, the list of supported operators


def check_for(flatbuffer: bytes, target: str) -> Preflight:
    """Checks a .tflite for a target, "edgetpu" or "gpu".

    Raises EffkerasError for a corrupt file, and for a target without a table.
    """
    table = table_of(target)
    graph = nodes(flatbuffer)
    if table.device.compiled and any(_is_compiled(node, table) for node in graph):
        return _of_compiled(graph, table, target)
    findings = [_findings(node, table) for node in graph]
    pieces = partitions(graph, [not found.refused for found in findings])
    kept = _kept(pieces, graph, table.device.partition)
    verdicts = tuple(
        _verdict(node, found, node.op.index in kept) for node, found in zip(graph, findings, strict=True)
    )
    memory = Memory(_weights(graph, kept), table.device.weights) if table.device.weights else None
    return Preflight(target, table, verdicts, sum(piece.taken for piece in pieces), memory)


def _is_compiled(node: Node, table: OpTable) -> bool:
    return node.is_custom and node.name == table.device.compiled


def _of_compiled(graph: Sequence[Node], table: OpTable, target: str) -> Preflight:
    """What the vendor's compiler has decided: its own operator runs on the device, all others on the CPU."""
    left = Reason(LEFT_TO_THE_CPU, LIST)
    verdicts = tuple(
        Verdict(
            node.op.index,
            node.name,
            node.is_custom,
            layer_of(node.outputs[0].info.name) if node.outputs else "",
            "maps" if _is_compiled(node, table) else "does not map",
            () if _is_compiled(node, table) else (left,),
            0 if node.is_custom else _macs(node),
        )
        for node in graph
    )
    return Preflight(target, table, verdicts, sum(one.on_device for one in verdicts), None, is_compiled=True)


@dataclass(frozen=True, slots=True)
class _Findings:
    """The rules that one operator breaks: those that refuse it, and those that leave doubt."""

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
    """Indices of the operators in the single partition that the device runs."""
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
    """Bytes of the constants in the partition; a constant that several operators share counts once."""
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


@dataclass(frozen=True, slots=True)
class Partition:
    """Indices of operators that run together: on the device if `taken`, else off it."""

    taken: bool
    operators: frozenset[int]


def partitions(graph: Sequence[Node], supported: Sequence[bool]) -> list[Partition]:
    """Splits a graph into partitions on and off the device, in the order in which they run.

    It follows LiteRT's `PartitionGraphIntoIndependentNodeSubsets`: a partition collects, in the order of
    execution, every operator of its kind (supported or not) whose inputs are ready. When none is left, the
    next partition begins. So a supported operator that depends on no unsupported one is in the first
    supported partition, wherever it is in the file.

    The operators of a cycle, and those that depend on it, are in no partition.
    """
    made_later = {tensor.info.index for node in graph for tensor in node.outputs}
    waiting = list(range(len(graph)))
    pieces: list[Partition] = []
    while waiting:
        first = next((i for i in waiting if _ready(graph[i], made_later)), None)
        if first is None:
            break
        taken = supported[first]
        piece = []
        for index in waiting:  # in the order of execution: an operator's inputs come before it
            if supported[index] == taken and _ready(graph[index], made_later):
                piece.append(index)
                made_later.difference_update(tensor.info.index for tensor in graph[index].outputs)
        pieces.append(Partition(taken, frozenset(piece)))
        waiting = [index for index in waiting if index not in pieces[-1].operators]
    return pieces


def _ready(node: Node, made_later: set[int]) -> bool:
    return not any(tensor.info.index in made_later for tensor in node.given)
