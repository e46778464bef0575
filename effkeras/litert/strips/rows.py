"""Which rows of its inputs an operator needs for some rows of its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from effkeras.litert.strips.graph import Graph
from effkeras.litert.tree import load_schema

# Each value from the values at its place alone.
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
    """A window along rows or columns: what it covers, its step, and the zeros before and after the map."""

    extent: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0

    def needed(self, outputs: range) -> range:
        """The places that the windows of some outputs cover; beyond the map where zeros are."""
        start = outputs.start * self.stride - self.before
        return range(start, (outputs.stop - 1) * self.stride - self.before + self.extent)


@dataclass(frozen=True, slots=True)
class Window:
    """What an operator reads around a place."""

    rows: Axis = Axis()
    columns: Axis = Axis()


def window_of(graph: Graph, op: Any) -> Window | None:
    """The window of an operator that works on rows, or None of one that does not.

    Its inputs are maps (1, H, W, C), and constants that are the same in every row.
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
    """TensorFlow's SAME: an odd zero goes behind the map."""
    zeros = max((outputs - 1) * stride + extent - size, 0)
    return Axis(extent, stride, zeros // 2, zeros - zeros // 2)
