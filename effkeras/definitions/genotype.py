"""The genotype grammar of cells (NASNet paper, section 3; PNASNet paper, section 3.1).

A cell is a list of strings. Each but the last is a node, the sum of two operations on one map each:

    sep5x5(h) + sep3x3(p)

`h` is the output of the previous cell, `p` that of the cell before it, and `n0`, `n1`, ... are the nodes in
order; a node uses only earlier maps. A bare map is the identity: `avg3x3(h) + p`. The last string lists the
maps that are concatenated to the cell's output; without it, these are all nodes that no node uses:

    concat(p, n0, n1)

Operations: the thirteen of the NASNet search space, see `OPERATIONS`. In a reduction cell, those on `h` and
`p` halve the resolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from effkeras.support.errors import EffkerasError, did_you_mean

H, P, FIRST_NODE = 0, 1, 2
IDENTITY = "identity"

_TERM = re.compile(r"\s*(?:(?P<op>\w+)\s*\(\s*(?P<of>\w+)\s*\)|(?P<bare>\w+))\s*")
_CONCAT = re.compile(r"\s*concat\s*\((?P<maps>[^()]*)\)\s*")
_INPUTS = {"h": H, "p": P}
_MAP = re.compile(r"h|p|n(?:0|[1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation of a branch; `kernel` is the window's side in pixels."""

    kind: Literal["identity", "separable", "average", "max", "conv", "factored", "dilated"]
    kernel: int = 1


OPERATIONS: Mapping[str, Operation] = {
    IDENTITY: Operation("identity"),
    "sep3x3": Operation("separable", 3),
    "sep5x5": Operation("separable", 5),
    "sep7x7": Operation("separable", 7),
    "avg3x3": Operation("average", 3),
    "max3x3": Operation("max", 3),
    "max5x5": Operation("max", 5),
    "max7x7": Operation("max", 7),
    "conv1x1": Operation("conv", 1),
    "conv3x3": Operation("conv", 3),
    "conv1x3_3x1": Operation("factored", 3),
    "conv1x7_7x1": Operation("factored", 7),
    "dil3x3": Operation("dilated", 3),
}


@dataclass(frozen=True, slots=True, order=True)
class Branch:
    """A named operation on one of the cell's maps: 0 is h, 1 is p, 2 is n0, 3 is n1, ..."""

    op: str
    source: int


Node = tuple[Branch, Branch]


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One decoded genotype: its nodes, and the maps of its output in order."""

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    @property
    def used(self) -> set[int]:
        """The maps that a node or the output uses."""
        return {branch.source for node in self.nodes for branch in node} | set(self.outputs)


def decode(genotype: Sequence[str]) -> Cell:
    """Reads a genotype. Raises EffkerasError with the invalid string and the reason."""
    texts = list(genotype)
    concat = _CONCAT.fullmatch(texts[-1]) if texts else None
    nodes = tuple(_node(index, text) for index, text in enumerate(texts[:-1] if concat else texts))
    if concat is None:
        return checked(Cell(nodes, unused_nodes(nodes)))
    maps = concat["maps"].split(",")
    return checked(Cell(nodes, tuple(_map_number(one.strip(), texts[-1].strip()) for one in maps)))


def encode(cell: Cell) -> tuple[str, ...]:
    """Writes a cell as the genotype that `decode` reads."""
    nodes = (f"{_branch_text(left)} + {_branch_text(right)}" for left, right in cell.nodes)
    return (*nodes, f"concat({', '.join(map(map_name, cell.outputs))})")


def canonical(cell: Cell) -> Cell:
    """The same form for all cells that differ only in the order of nodes, of terms and of outputs.

    Cells with equal canonical forms are the same point of the search space.
    """
    return min(_reordered(cell, order) for order in _orders(cell, ()))


def unused_nodes(nodes: Sequence[Node]) -> tuple[int, ...]:
    """The nodes that no other node uses, as maps."""
    used = {branch.source for node in nodes for branch in node}
    return tuple(number for number in range(FIRST_NODE, FIRST_NODE + len(nodes)) if number not in used)


def map_name(number: int) -> str:
    """A map's name in the grammar: h, p, n0, n1, ..."""
    return {H: "h", P: "p"}.get(number, f"n{number - FIRST_NODE}")


def checked(cell: Cell) -> Cell:
    """The cell itself. Raises EffkerasError for an unknown operation, a cycle, or an unused map."""
    if not cell.nodes:
        raise EffkerasError("a cell needs a node, such as 'sep3x3(h) + p'")
    for index, node in enumerate(cell.nodes):
        _check_node(index, node, len(cell.nodes))
    _check_outputs(cell)
    unused = [number for number in _maps(cell) if number not in cell.used and number != P]
    if H in unused:
        raise EffkerasError("no node takes h, so the previous cell would have no effect; use h in a node")
    if unused:
        raise EffkerasError(f"{map_name(unused[0])} is unused: use it in a node or in concat(...)")
    return cell


def _maps(cell: Cell) -> range:
    return range(FIRST_NODE + len(cell.nodes))


def _check_node(index: int, node: Node, count: int) -> None:
    own = FIRST_NODE + index
    for branch in node:
        where = f"node {map_name(own)} '{_branch_text(node[0])} + {_branch_text(node[1])}'"
        if branch.op not in OPERATIONS:
            raise EffkerasError(
                f"{where}: unknown operation {branch.op!r}; {did_you_mean(branch.op, OPERATIONS)}"
            )
        if not 0 <= branch.source < FIRST_NODE + count:
            raise EffkerasError(f"{where}: there is no {map_name(branch.source)} in a cell of {count} nodes")
        if branch.source >= own:
            what = "itself" if branch.source == own else f"{map_name(branch.source)}, which comes later"
            before = ", ".join(map(map_name, range(own)))
            raise EffkerasError(f"{where} takes {what}: that is a cycle; it may take {before}")


def _check_outputs(cell: Cell) -> None:
    text = encode(cell)[-1]
    for number in cell.outputs:
        if number not in _maps(cell):
            raise EffkerasError(
                f"{text!r}: there is no {map_name(number)} in a cell of {len(cell.nodes)} nodes"
            )
        if cell.outputs.count(number) > 1:
            raise EffkerasError(f"{text!r} names {map_name(number)} twice")


def _node(index: int, text: str) -> Node:
    terms = text.split("+")
    if len(terms) != 2:
        raise EffkerasError(f"node n{index} {text!r} must add two operations, like 'sep3x3(h) + p'")
    return _branch(terms[0], text), _branch(terms[1], text)


def _branch(term: str, text: str) -> Branch:
    match = _TERM.fullmatch(term)
    if match is None:
        raise EffkerasError(f"{text!r}: {term.strip()!r} is not understood; write it like sep3x3(h)")
    return Branch(match["op"] or IDENTITY, _map_number(match["of"] or match["bare"], text))


def _map_number(name: str, text: str) -> int:
    if not _MAP.fullmatch(name):
        raise EffkerasError(f"{text!r}: {name!r} is not a map; a cell has h, p, n0, n1, ...")
    return _INPUTS[name] if name in _INPUTS else FIRST_NODE + int(name[1:])


def _branch_text(branch: Branch) -> str:
    name = map_name(branch.source)
    return name if branch.op == IDENTITY else f"{branch.op}({name})"


def _orders(cell: Cell, placed: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the nodes that place the first ready node in sort order; equal nodes give several."""
    if len(placed) == len(cell.nodes):
        yield placed
        return
    numbers = _numbers(placed)
    ready = {
        index: _renumbered(node, numbers)
        for index, node in enumerate(cell.nodes)
        if index not in placed and all(branch.source in numbers for branch in node)
    }
    first = min(ready.values())
    for index, node in ready.items():
        if node == first:
            yield from _orders(cell, (*placed, index))


def _reordered(cell: Cell, order: tuple[int, ...]) -> Cell:
    numbers = _numbers(order)
    nodes = tuple(_renumbered(cell.nodes[index], numbers) for index in order)
    return Cell(nodes, tuple(sorted(numbers[number] for number in cell.outputs)))


def _numbers(order: tuple[int, ...]) -> dict[int, int]:
    """The new numbers of h, p and the nodes placed so far, by old number."""
    return {H: H, P: P, **{FIRST_NODE + old: FIRST_NODE + new for new, old in enumerate(order)}}


def _renumbered(node: Node, numbers: Mapping[int, int]) -> Node:
    first, second = sorted(Branch(branch.op, numbers[branch.source]) for branch in node)
    return first, second
