"""The genes of one cell: NASNet's pairs (arXiv:1707.07012, section 3; arXiv:1712.00559, section 3.1).

Node i has four genes: its two input feature maps, each h, p or an earlier node, and an operation on each.
So every genome is a valid cell. Cells that differ only in the order of a node's two inputs, or in the order
of nodes that do not depend on each other, are the same cell; the lowest genome represents them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from effkeras.definitions.genotype import FIRST_NODE, Branch, Cell, H, P, map_name
from effkeras.search.genomes import Gene, Genome

Output = Literal["loose", "all", "choose"]
OUTPUTS: tuple[Output, ...] = ("loose", "all", "choose")

# The two input maps of a node, the lower first, and the operations on them, as indices.
Node = tuple[int, int, int, int]
_NODE = 4


class _Form(NamedTuple):
    """A cell as numbers; `kept` are the maps that genes add to its output."""

    nodes: tuple[Node, ...]
    kept: frozenset[int]


@dataclass(frozen=True, slots=True)
class CellGenes:
    """The choices of one cell.

    The output has the loose nodes, which are no node's input ("loose"), all nodes ("all"), or the loose
    nodes and a choice of the other nodes and p ("choose"). It includes h if h is no node's input.
    """

    name: str
    nodes: int
    ops: tuple[str, ...]
    output: Output

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes, node by node, then those of the output."""
        kept = tuple(Gene(f"{self.name}.keep_{map_name(one)}", (False, True)) for one in self._keepable)
        return (*itertools.chain.from_iterable(map(self._node_genes, range(self.nodes))), *kept)

    def canonical(self, part: Genome) -> Genome:
        """The lowest genome of the same cell."""
        return self._part(min(_lowest_forms(self._form(part)), key=self._part))

    def copies(self, part: Genome) -> int:
        """The number of genomes of the same cell."""
        form = self._form(part)
        lowest = [self._part(one) for one in _lowest_forms(form)]
        alike = lowest.count(min(lowest))  # orders that exchange equal nodes
        turned = sum(node[::2] != node[1::2] for node in form.nodes)
        idle = len(_loose(form.nodes)) - 1 if self.output == "choose" else 0
        return _orders(form.nodes) // alike * 2 ** (turned + idle)

    def cell(self, part: Genome) -> Cell:
        """The cell as a record for the networks."""
        form = self._form(part)
        nodes = tuple(
            (Branch(self.ops[left], one), Branch(self.ops[right], other))
            for one, other, left, right in form.nodes
        )
        return Cell(nodes, self._outputs(form))

    def encode(self, cell: Cell) -> Genome | None:
        """The canonical genome of a cell; None when it has other nodes, operations or outputs."""
        ops = {branch.op for node in cell.nodes for branch in node}
        if len(cell.nodes) != self.nodes or not ops <= set(self.ops):
            return None
        nodes = tuple(
            _sorted_node(one.source, other.source, self.ops.index(one.op), self.ops.index(other.op))
            for one, other in cell.nodes
        )
        form = _Form(nodes, frozenset(cell.outputs) & self._kept_by(nodes))
        return (
            self.canonical(self._part(form)) if self._outputs(form) == tuple(sorted(cell.outputs)) else None
        )

    @property
    def _keepable(self) -> list[int]:
        """The maps with a gene for the output; without the last node, which is always in the output."""
        return [P, *range(FIRST_NODE, FIRST_NODE + self.nodes - 1)] if self.output == "choose" else []

    def _node_genes(self, index: int) -> Iterator[Gene]:
        maps = tuple(map_name(one) for one in range(FIRST_NODE + index))
        for key, choices in (("in1", maps), ("in2", maps), ("op1", self.ops), ("op2", self.ops)):
            yield Gene(f"{self.name}.n{index}.{key}", choices)

    def _form(self, part: Genome) -> _Form:
        nodes = tuple(_sorted_node(*part[_NODE * i : _NODE * i + _NODE]) for i in range(self.nodes))
        chosen = itertools.compress(self._keepable, part[_NODE * self.nodes :])
        return _Form(nodes, frozenset(chosen) & self._kept_by(nodes))

    def _kept_by(self, nodes: tuple[Node, ...]) -> frozenset[int]:
        """The maps whose output gene has an effect: p, and nodes that are the input of another node."""
        return frozenset(self._keepable) - _loose(nodes)

    def _part(self, form: _Form) -> Genome:
        return (
            *itertools.chain.from_iterable(form.nodes),
            *(int(one in form.kept) for one in self._keepable),
        )

    def _outputs(self, form: _Form) -> tuple[int, ...]:
        every = set(range(FIRST_NODE, FIRST_NODE + self.nodes))
        shown = every if self.output == "all" else _loose(form.nodes) | form.kept
        return tuple(sorted(shown if H in _taken(form.nodes) else shown | {H}))


def _sorted_node(one: int, other: int, left: int, right: int) -> Node:
    """A node with its two inputs in ascending order."""
    (one, left), (other, right) = sorted([(one, left), (other, right)])
    return one, other, left, right


def _taken(nodes: tuple[Node, ...]) -> set[int]:
    return {source for node in nodes for source in node[:2]}


def _loose(nodes: tuple[Node, ...]) -> frozenset[int]:
    """The nodes that are no node's input, as map indices."""
    return frozenset(range(FIRST_NODE, FIRST_NODE + len(nodes))) - _taken(nodes)


def _lowest_forms(form: _Form) -> Iterator[_Form]:
    """The cell with its nodes in the order that always puts the lowest next; equal nodes give several."""
    yield from _extended(form, {H: H, P: P}, ())


def _extended(form: _Form, numbers: dict[int, int], done: tuple[Node, ...]) -> Iterator[_Form]:
    """Completes the order; `numbers` maps the old numbers of h, p and the `done` nodes to the new ones."""
    if len(done) == len(form.nodes):
        yield _Form(done, frozenset(numbers[one] for one in form.kept))
        return
    ready = {
        FIRST_NODE + index: _sorted_node(numbers[node[0]], numbers[node[1]], *node[2:])
        for index, node in enumerate(form.nodes)
        if FIRST_NODE + index not in numbers and node[0] in numbers and node[1] in numbers
    }
    first = min(ready.values())
    for old, node in ready.items():
        if node == first:
            yield from _extended(form, {**numbers, old: FIRST_NODE + len(done)}, (*done, node))


def _orders(nodes: tuple[Node, ...]) -> int:
    """The number of orders of the nodes in which each comes after its inputs."""

    @functools.cache
    def ways(placed: frozenset[int]) -> int:
        if len(placed) == FIRST_NODE + len(nodes):
            return 1
        fresh = (
            FIRST_NODE + index
            for index, node in enumerate(nodes)
            if FIRST_NODE + index not in placed and placed.issuperset(node[:2])
        )
        return sum(ways(placed | {one}) for one in fresh)

    return ways(frozenset((H, P)))
