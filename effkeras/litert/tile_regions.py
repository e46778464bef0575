"""Regions of a .tflite whose largest maps can be computed in tiles of rows, and the rows of each tile."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from effkeras.litert.tree import code_name, dtype_name, load_schema, readers_of

_BYTES = {"float32": 4, "int32": 4, "float16": 2, "int16": 2}


class Graph:
    """A parsed file's main graph with lookups for its tensors and their readers."""

    def __init__(self, parsed: Any) -> None:
        self.parsed = parsed
        self._graph = parsed.subgraphs[0]
        self.readers = readers_of(self._graph)

    @property
    def operators(self) -> list[Any]:
        """The operators in the order of execution."""
        return self._graph.operators

    def name(self, op: Any) -> str:
        """An operator's name, such as CONV_2D."""
        return code_name(self.parsed.operatorCodes[op.opcodeIndex])

    def tensor(self, index: int) -> Any:
        """A tensor, as the schema's object."""
        return self._graph.tensors[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """The dimensions of a tensor; () for a scalar."""
        shape = self.tensor(index).shape
        return () if shape is None else tuple(map(int, shape))

    def size(self, index: int) -> int:
        """The size of a tensor's values in bytes."""
        return math.prod(self.shape(index)) * _BYTES.get(dtype_name(self.tensor(index).type), 1)

    def maps(self, op: Any) -> list[int]:
        """An operator's inputs that are not constants, each once."""
        return list(dict.fromkeys(int(one) for one in op.inputs if one >= 0 and not self._is_constant(one)))

    def constants(self, op: Any) -> list[int]:
        """An operator's inputs that are constants."""
        return [int(one) for one in op.inputs if one >= 0 and self._is_constant(one)]

    def _is_constant(self, index: int) -> bool:
        return self.parsed.buffers[self.tensor(index).buffer].data is not None


# Each output value depends only on the input values at its place.
_POINTWISE = {
    "ADD",
    "DEQUANTIZE",
    "HARD_SWISH",
    "LOGISTIC",
    "MUL",
    "QUANTIZE",
    "RELU",
    "RELU6",
    "SUB",
    "TANH",
}
_WINDOWED = {"CONV_2D", "DEPTHWISE_CONV_2D"}


@dataclass(frozen=True, slots=True)
class Axis:
    """A window along rows or columns: its extent, its stride, and the zero padding before and after."""

    extent: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0

    def needed(self, outputs: range) -> range:
        """The places that the windows of some outputs cover; the padding lies outside the map."""
        start = outputs.start * self.stride - self.before
        return range(start, (outputs.stop - 1) * self.stride - self.before + self.extent)


@dataclass(frozen=True, slots=True)
class Window:
    """The input area that an operator reads for one output place."""

    rows: Axis = Axis()
    columns: Axis = Axis()


def window_of(graph: Graph, op: Any) -> Window | None:
    """The window of an operator that can be computed in rows, or None for any other.

    Its inputs must be maps (1, H, W, C), and constants that are the same in every row.
    """
    name = graph.name(op)
    if name not in _POINTWISE | _WINDOWED or not _has_one_map(graph, op):
        return None
    maps, constants = graph.maps(op), graph.constants(op)
    if any(not _is_map(graph, index) for index in maps):
        return None
    if name in _WINDOWED:
        return _sliding(graph, op) if len(maps) == 1 else None
    same_rows = all(graph.shape(index) == graph.shape(op.outputs[0]) for index in maps)
    return Window() if same_rows and all(_same_in_rows(graph, index) for index in constants) else None


def _has_one_map(graph: Graph, op: Any) -> bool:
    return len(op.outputs) == 1 and _is_map(graph, op.outputs[0]) and bool(graph.maps(op))


def _is_map(graph: Graph, index: int) -> bool:
    shape = graph.shape(index)
    return len(shape) == 4 and shape[0] == 1


def _same_in_rows(graph: Graph, index: int) -> bool:
    shape = graph.shape(index)
    return len(shape) < 3 or shape[-3] == 1


def _sliding(graph: Graph, op: Any) -> Window:
    options = op.builtinOptions
    _, high, wide, _ = graph.shape(op.inputs[1])
    _, rows, columns, _ = graph.shape(op.inputs[0])
    _, rows_out, columns_out, _ = graph.shape(op.outputs[0])
    axis = _same if options.padding == load_schema().Padding.SAME else _valid
    down = (high - 1) * options.dilationHFactor + 1
    across = (wide - 1) * options.dilationWFactor + 1
    return Window(
        axis(down, options.strideH, rows, rows_out), axis(across, options.strideW, columns, columns_out)
    )


def _valid(extent: int, stride: int, _before: int, _after: int) -> Axis:
    return Axis(extent, stride)


def _same(extent: int, stride: int, size: int, outputs: int) -> Axis:
    """TensorFlow's SAME padding: if the number of zeros is odd, one more goes after the map."""
    zeros = max((outputs - 1) * stride + extent - size, 0)
    return Axis(extent, stride, zeros // 2, zeros - zeros // 2)


# Five tiles were not faster, and XNNPACK leaves a concatenation of eight maps to the plain kernels.
TILES = 4
# Maps of this many bytes do not stay in a processor's cache from one operator to the next.
CACHE = 5 * 2**20
# The cost of computing a byte again, relative to copying it.
_REPEATED = 4
_LONGEST = 16


@dataclass(frozen=True, eq=False, slots=True)
class Region:
    """Operators, in order, that compute one map from another; no other operator reads the maps between.

    `windows` are the operators' own; `entry` and `exit` are the tensors of the two maps.
    """

    operators: tuple[Any, ...]
    windows: tuple[Window, ...]
    entry: int
    exit: int

    def tiles(self, graph: Graph) -> list[range]:
        """The rows of the result that each tile computes."""
        rows = graph.shape(self.exit)[1]
        edges = [rows * tile // TILES for tile in range(TILES + 1)]
        return [range(first, last) for first, last in itertools.pairwise(edges)]

    def rows(self, graph: Graph, made: range) -> Mapping[int, range]:
        """The rows of each map that a tile of the result needs, by tensor index."""
        needed = {self.exit: made}
        for op, window in zip(reversed(self.operators), reversed(self.windows), strict=True):
            wanted = window.rows.needed(needed[int(op.outputs[0])])
            for index in graph.maps(op):
                inside = range(max(wanted.start, 0), min(wanted.stop, graph.shape(index)[1]))
                known = needed.get(index, inside)
                needed[index] = range(min(known.start, inside.start), max(known.stop, inside.stop))
        return needed


def regions(graph: Graph, cache: int = CACHE) -> list[Region]:
    """The regions that save most; no two of them share an operator.

    Maps smaller than `cache` bytes save nothing.
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
    """All regions that begin with the operator at this position."""
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
        if len(exits) == 1 and graph.shape(exits[0])[1] >= TILES:
            yield Region(tuple(inside), tuple(windows), entry, exits[0])


def _exits(graph: Graph, inside: list[Any]) -> list[int]:
    """The maps that operators other than these read."""
    own = set(map(id, inside))
    made = [int(op.outputs[0]) for op in inside]
    return [index for index in made if any(id(reader) not in own for reader in graph.readers[index])]


def _saved(graph: Graph, region: Region, cache: int) -> float:
    """Bytes of memory traffic saved, minus the cost of the tiles: rows copied or computed again."""
    inner = [int(op.outputs[0]) for op in region.operators if int(op.outputs[0]) != region.exit]
    large = [index for index in inner if graph.size(index) >= cache]
    passed = sum(graph.size(index) * (1 + len(graph.readers[index])) for index in large)
    copied = 2 * (graph.size(region.entry) + graph.size(region.exit))
    tiles = [region.rows(graph, made) for made in region.tiles(graph)]
    again = sum(
        graph.size(index) * (sum(len(tile[index]) for tile in tiles) / graph.shape(index)[1] - 1)
        for index in inner
    )
    return passed - copied - _REPEATED * again
