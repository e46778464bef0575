"""Operators of a .tflite that are worth computing in strips: those between which large maps pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from effkeras.litert.strips.graph import Graph
from effkeras.litert.strips.rows import Window, window_of

# Five were not faster, and XNNPACK leaves a concatenation of eight maps to the plain kernels.
STRIPS = 4
# Maps of so many bytes do not stay in a processor's cache from one operator to the next.
CACHE = 5 * 2**20
# An operator that is repeated for a row costs more than to copy it: it computes.
_REPEATED = 4
_LONGEST = 16


@dataclass(frozen=True, eq=False, slots=True)
class Region:
    """Operators, in order, that make one map of another; what is between them, nobody else reads.

    `windows` are the operators' own; `entry` and `exit` are the tensors of both maps.
    """

    operators: tuple[Any, ...]
    windows: tuple[Window, ...]
    entry: int
    exit: int

    def strips(self, graph: Graph) -> list[range]:
        """The rows of the result that each strip makes."""
        rows = graph.shape(self.exit)[1]
        edges = [rows * strip // STRIPS for strip in range(STRIPS + 1)]
        return [range(first, last) for first, last in itertools.pairwise(edges)]

    def rows(self, graph: Graph, made: range) -> Mapping[int, range]:
        """The rows of each map that a strip of the result needs, by the map's tensor."""
        needed = {self.exit: made}
        for op, window in zip(reversed(self.operators), reversed(self.windows), strict=True):
            wanted = window.rows.needed(needed[int(op.outputs[0])])
            for index in graph.maps(op):
                inside = range(max(wanted.start, 0), min(wanted.stop, graph.shape(index)[1]))
                known = needed.get(index, inside)
                needed[index] = range(min(known.start, inside.start), max(known.stop, inside.stop))
        return needed


def regions(graph: Graph, cache: int = CACHE) -> list[Region]:
    """The regions that save most, none of which shares an operator with another.

    Maps below `cache` bytes save nothing.
    """
    found = [one for place in range(len(graph.operators)) for one in _from(graph, place)]
    scored = sorted(((_saved(graph, one, cache), one) for one in found), key=lambda pair: -pair[0])
    taken: set[int] = set()
    chosen = []
    for saved, region in scored:
        own = set(map(id, region.operators))
        if saved > 0 and not own & taken:
            taken |= own
            chosen.append(region)
    return chosen


def _from(graph: Graph, place: int) -> Iterator[Region]:
    """All regions that begin with the operator at a place."""
    first = graph.operators[place]
    if window_of(graph, first) is None or len(graph.maps(first)) != 1:
        return
    (entry,) = graph.maps(first)
    inside: list[Any] = []
    windows: list[Window] = []
    known = {entry}
    for op in graph.operators[place:]:
        if not known & set(graph.maps(op)) or (op is not first and set(graph.maps(op)) == {entry}):
            continue
        window = window_of(graph, op)
        if window is None or not set(graph.maps(op)) <= known or len(inside) == _LONGEST:
            return
        inside.append(op)
        windows.append(window)
        known.add(int(op.outputs[0]))
        exits = _exits(graph, inside)
        if len(exits) == 1 and graph.shape(exits[0])[1] >= STRIPS:
            yield Region(tuple(inside), tuple(windows), entry, exits[0])


def _exits(graph: Graph, inside: list[Any]) -> list[int]:
    """The maps that operators other than these read."""
    own = set(map(id, inside))
    made = [int(op.outputs[0]) for op in inside]
    return [index for index in made if any(id(reader) not in own for reader in graph.readers[index])]


def _saved(graph: Graph, region: Region, cache: int) -> float:
    """Bytes that no longer go through memory, less those that strips cost: copied, or computed again."""
    inner = [int(op.outputs[0]) for op in region.operators if int(op.outputs[0]) != region.exit]
    large = [index for index in inner if graph.size(index) >= cache]
    passed = sum(graph.size(index) * (1 + len(graph.readers[index])) for index in large)
    copied = 2 * (graph.size(region.entry) + graph.size(region.exit))
    strips = [region.rows(graph, made) for made in region.strips(graph)]
    again = sum(
        graph.size(index) * (sum(len(strip[index]) for strip in strips) / graph.shape(index)[1] - 1)
        for index in inner
    )
    return passed - copied - _REPEATED * again
