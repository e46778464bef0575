"""Rewrites a .tflite so that its largest maps are computed tile by tile.

XNNPACK runs an operator over its whole map before the next one starts. EfficientDet-D0 expands its image
to a map of 25 MB, and the activations and filters that follow each read and write all of it. With a quarter
of the rows at a time, each operator finds its input in the cache. Rows that the windows of two tiles cover
are computed twice; the same operators compute every value. Such computation of several layers in patches is
known from accelerators (Alwani et al., Fused-Layer CNN Accelerators, MICRO 2016) and from microcontrollers
(MCUNetV2, arXiv:2110.15352).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from effkeras.litert.flatbuffer import Operator
from effkeras.litert.tile_regions import CACHE, Graph, Region, Window, regions
from effkeras.litert.tree import add_constant, code_index, load_schema, pack, parse, text_of
from effkeras.support.errors import EffkerasError

# The operator versions that accept int8.
_VERSION = 2
# The suffix of a tile's tensor name; older files say "strip".
_PIECE = re.compile(r"/(?:tile|strip)\d+_\d+$")


def tile_rows(model: bytes, cache: int = CACHE) -> bytes:
    """The file with its largest maps computed in tiles, results equal; unchanged if that saves nothing.

    Args:
        model: the .tflite, of any precision.
        cache: maps of fewer bytes stay whole.

    Raises EffkerasError for a corrupt file.
    """
    parsed = parse(model)
    try:
        graph = Graph(parsed)
        found = regions(graph, cache)
        for region in found:
            _replace(graph, region)
        return pack(parsed) if found else model
    except Exception as error:  # a damaged file may raise anything
        raise EffkerasError(
            f"the .tflite is damaged ({type(error).__name__}); export the model again"
        ) from error


def has_row_tiles(operators: Iterable[Operator]) -> bool:
    """Whether `tile_rows` wrote some of these operators."""
    return any(_PIECE.search(tensor.name) for op in operators for tensor in op.outputs)


def _replace(graph: Graph, region: Region) -> None:
    """Replaces a region by its tiles, at the place of its first operator."""
    tiles = [_Tile(graph, region, number, made) for number, made in enumerate(region.tiles(graph))]
    written = [op for tile in tiles for op in tile.write()]
    written.append(_joined(graph, [tile.result for tile in tiles], region.exit))
    own = set(map(id, region.operators))
    operators = graph.operators
    place = next(at for at, op in enumerate(operators) if id(op) in own)
    operators[place:] = [*written, *(op for op in operators[place:] if id(op) not in own)]


@dataclass(frozen=True, eq=False, slots=True)
class _Piece:
    """Some rows of a map, as a tensor."""

    index: int
    rows: range


@dataclass(eq=False, slots=True)
class _Tile:
    """One tile of a region while it is written."""

    graph: Graph
    region: Region
    number: int
    made: range
    _pieces: dict[int, _Piece] = field(default_factory=dict)
    _written: list[Any] = field(default_factory=list)

    @property
    def result(self) -> int:
        """The tensor of this tile's part of the result, after `write`."""
        return self._pieces[self.region.exit].index

    def write(self) -> list[Any]:
        """Writes and returns the operators of the tile."""
        entry = self.region.entry
        self._pieces[entry] = _Piece(entry, range(self.graph.shape(entry)[1]))
        needed = self.region.rows(self.graph, self.made)
        self._pieces[entry] = _Piece(self._cut(entry, needed[entry]), needed[entry])
        for op, window in zip(self.region.operators, self.region.windows, strict=True):
            output = int(op.outputs[0])
            self._pieces[output] = _Piece(self._computed(op, window, needed[output]), needed[output])
        return self._written

    def _computed(self, op: Any, window: Window, rows: range) -> int:
        """Computes some rows of an operator's output; returns their tensor."""
        twin = copy.copy(op)
        maps = {index: self._taken(index, window, rows) for index in self.graph.maps(op)}
        twin.inputs = [maps.get(int(index), int(index)) for index in op.inputs]
        if hasattr(op.builtinOptions, "padding"):
            twin.builtinOptions = copy.copy(op.builtinOptions)
            twin.builtinOptions.padding = load_schema().Padding.VALID
        made = self._tensor(int(op.outputs[0]), rows=len(rows))
        twin.outputs = [made]
        self._written.append(twin)
        return made

    def _taken(self, index: int, window: Window, rows: range) -> int:
        """The rows of a map that an operator reads for some rows of its output, with zero padding."""
        wanted, high = window.rows.needed(rows), self.graph.shape(index)[1]
        inside = range(max(wanted.start, 0), min(wanted.stop, high))
        part = self._cut(index, inside)
        zeros = (
            (inside.start - wanted.start, wanted.stop - inside.stop),
            (window.columns.before, window.columns.after),
        )
        return self._padded(part, zeros) if any(map(any, zeros)) else part

    def _cut(self, index: int, rows: range) -> int:
        """These rows of a map; the tile must have them already."""
        piece = self._pieces[index]
        if piece.rows == rows:
            return piece.index
        _, _, wide, deep = self.graph.shape(index)
        begin = np.array([0, rows.start - piece.rows.start, 0, 0], np.int32)
        size = np.array([1, len(rows), wide, deep], np.int32)
        return self._add("SLICE", piece.index, [begin, size], self._tensor(index, rows=len(rows)))

    def _padded(self, part: int, zeros: tuple[tuple[int, int], tuple[int, int]]) -> int:
        _, high, wide, deep = self.graph.shape(part)
        around = np.array([(0, 0), *zeros, (0, 0)], np.int32)
        shape = (1, high + sum(zeros[0]), wide + sum(zeros[1]), deep)
        return self._add("PAD", part, [around], self._tensor(part, shape=shape))

    def _add(self, operator: str, source: int, constants: Sequence[np.ndarray], made: int) -> int:
        label = text_of(self.graph.tensor(made).name)
        inputs = [
            add_constant(self.graph.parsed, values, f"{label}/{operator.lower()}_{number}")
            for number, values in enumerate(constants)
        ]
        self._written.append(_operator(self.graph, operator, [source, *inputs], made))
        return made

    def _tensor(self, like: int, rows: int = 0, shape: Sequence[int] = ()) -> int:
        """A new tensor of the same kind with this number of rows, or with this shape."""
        twin = copy.copy(self.graph.tensor(like))
        _, _, wide, deep = self.graph.shape(like)
        twin.shape, twin.shapeSignature = list(shape or (1, rows, wide, deep)), None
        tensors = self.graph.parsed.subgraphs[0].tensors
        twin.name = f"{text_of(twin.name)}/tile{self.number}_{len(tensors)}"
        tensors.append(twin)
        return len(tensors) - 1


def _joined(graph: Graph, parts: Sequence[int], result: int) -> Any:
    op = _operator(graph, "CONCATENATION", parts, result)
    op.builtinOptions.axis = 1
    return op


def _operator(graph: Graph, name: str, inputs: Sequence[int], output: int) -> Any:
    schema = load_schema()
    options = f"{name.title()}Options"
    return schema.OperatorT(
        opcodeIndex=code_index(graph.parsed, getattr(schema.BuiltinOperator, name), _VERSION),
        inputs=list(inputs),
        outputs=[output],
        builtinOptionsType=getattr(schema.BuiltinOptions, options),
        builtinOptions=getattr(schema, f"{options}T")(),
    )
