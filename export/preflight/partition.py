"""Which operators a delegate runs together, as LiteRT cuts a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effkeras.litert.nodes import Node


@dataclass(frozen=True, slots=True)
class Partition:
    """Operators, by index, that run one after the other in one place: on the device if `taken`."""

    taken: bool
    operators: frozenset[int]


def partitions(graph: Sequence[Node], supported: Sequence[bool]) -> list[Partition]:
    """Cuts a graph into pieces that are on the device or off it, in the order in which they run.

    LiteRT's way (`PartitionGraphIntoIndependentNodeSubsets`): a piece takes in, in the order of execution,
    every operator of its kind whose inputs are there; when none is left the next piece begins. So an
    operator that nothing unsupported leads to is in the first piece, wherever it stands in the file.

    A graph whose operators wait for each other in a circle ends where the circle begins: what is in it is in
    no piece.
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
        for index in waiting:  # in the order of execution: an operator's inputs were made before it
            if supported[index] == taken and _ready(graph[index], made_later):
                piece.append(index)
                made_later.difference_update(tensor.info.index for tensor in graph[index].outputs)
        pieces.append(Partition(taken, frozenset(piece)))
        waiting = [index for index in waiting if index not in pieces[-1].operators]
    return pieces


def _ready(node: Node, made_later: set[int]) -> bool:
    return not any(tensor.info.index in made_later for tensor in node.given)
