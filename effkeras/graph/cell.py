"""One cell of a cell network (NASNet paper, figures 3 and 4; tensorflow/models, slim `nasnet_utils.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from effkeras.definitions.genotype import (
    FIRST_NODE,
    OPERATIONS,
    Branch,
    Cell,
    H,
    Node,
    Operation,
    P,
    map_name,
)
from effkeras.graph.vocabulary import Conv, Pool, Style, Tensor, Vocabulary, concatenated, conv_norm_act


@dataclass(frozen=True, slots=True)
class PlacedCell:
    """A cell at its position in a network.

    `previous` is the index of the output used as p, counting the stem's and then all cells' (None: p is h).
    `keep` is the share that drop-path keeps of its operations. The output has stride 2^level.
    """

    name: str
    cell: Cell
    filters: int
    stride: int
    level: int
    previous: int | None
    keep: float


@dataclass(frozen=True, slots=True)
class CellContext:
    """A cell under construction: its position, and the settings that all cells of the network share.

    `strided_pool` and `odd_halves` are the network's.
    """

    place: PlacedCell
    style: Style
    strided_pool: Literal["same", "zero"]
    odd_halves: Literal["all", "equal"]

    @property
    def filters(self) -> int:
        """Filters of every operation of the cell."""
        return self.place.filters


def cell(net: Vocabulary[Tensor], h: Tensor, p: Tensor | None, context: CellContext) -> Tensor:
    """A cell's output: the concatenation of its output maps.

    Args:
        net: the vocabulary that provides the operations.
        h: the output of the previous cell.
        p: the output of the cell before that, with the same or twice the resolution; None uses h instead.
        context: the cell, and the settings that its layers share.
    """
    place = context.place
    maps = [_narrowed(net, h, f"{place.name}_h", context), h]
    if p is not None and P in place.cell.used:
        maps[P] = _matched(net, p, net.size(h), context)
    for index, node in enumerate(place.cell.nodes):
        maps.append(_node(net, maps, f"{place.name}_node{index}", node, context))
    outputs = [_output(net, maps, number, context) for number in place.cell.outputs]
    return concatenated(outputs, f"{place.name}_concat", net.concat)


def output_name(place: PlacedCell) -> str:
    """The name of a cell's last layer."""
    first, *others = place.cell.outputs
    return f"{place.name}_concat" if others else f"{place.name}_node{first - FIRST_NODE}_add"


def _narrowed(net: Vocabulary[Tensor], x: Tensor, name: str, context: CellContext, stride: int = 1) -> Tensor:
    """ReLU, a 1x1 convolution to the cell's filters, and batch normalisation."""
    return _step(net, x, name, Conv(context.filters, stride=stride), context.style)


def _matched(net: Vocabulary[Tensor], p: Tensor, size: tuple[int, int], context: CellContext) -> Tensor:
    """p at the resolution of h, with the cell's filters."""
    name = f"{context.place.name}_p"
    if net.size(p) != size:
        p = net.activation(p, f"{name}_act", context.style.activation)
        return _halved(net, p, name, context)
    return p if net.nominal(p) == context.filters else _narrowed(net, p, name, context)


def _halved(net: Vocabulary[Tensor], x: Tensor, name: str, context: CellContext) -> Tensor:
    """Halves the resolution: a convolution on even and one on odd pixels, each with half of the filters."""
    half = context.filters // 2
    rest = half if context.odd_halves == "equal" else context.filters - half
    even = net.conv(x, f"{name}_even_conv", Conv(half, stride=2))
    shifted = net.shift(x, f"{name}_odd")
    odd = net.conv(shifted, f"{name}_odd_conv", Conv(rest, stride=2))
    return net.batch_norm(net.concat([even, odd], f"{name}_parts"), f"{name}_bn", context.style.batch_norm)


def _widened(net: Vocabulary[Tensor], x: Tensor, name: str, context: CellContext) -> Tensor:
    """A map with the cell's filters: a 1x1 convolution without activation where it has others."""
    if net.nominal(x) == context.filters:
        return x
    return conv_norm_act(net, x, name, Conv(context.filters), context.style, act=False)


def _node(
    net: Vocabulary[Tensor], maps: Sequence[Tensor], name: str, node: Node, context: CellContext
) -> Tensor:
    terms = [
        _branch(net, maps[branch.source], f"{name}_{side}", branch, context)
        for side, branch in zip(("left", "right"), node, strict=True)
    ]
    return net.add(terms, f"{name}_add")


def _branch(net: Vocabulary[Tensor], x: Tensor, name: str, branch: Branch, context: CellContext) -> Tensor:
    """An operation on a map; a reduction strides those on h and p, and drop-path never drops the identity."""
    op = OPERATIONS[branch.op]
    stride = context.place.stride if branch.source in (H, P) else 1
    if op.kind == "identity":
        fits = stride == 1 and net.nominal(x) == context.filters
        return x if fits else _narrowed(net, x, name, context, stride)
    if op.kind in ("average", "max"):
        x = net.pool(x, f"{name}_pool", _pool(op, stride, context))
        x = _widened(net, x, name, context)
    else:
        x = _convolved(net, x, name, op, stride, context)
    return net.drop_path(x, f"{name}_drop", context.place.keep)


def _pool(op: Operation, stride: int, context: CellContext) -> Pool:
    padding = context.strided_pool if stride == 2 else "same"
    return Pool("max" if op.kind == "max" else "average", op.kernel, stride, padding)


def _convolved(
    net: Vocabulary[Tensor], x: Tensor, name: str, op: Operation, stride: int, context: CellContext
) -> Tensor:
    if op.kind == "dilated" and stride == 2:
        # Keras has no strided dilation. For a dilation of 2 this is equal, because all taps are even pixels.
        x = net.pool(x, f"{name}_even", Pool("max", window=1, stride=2, padding="valid"))
    for step, conv in _steps(op, stride, context.filters).items():
        x = _step(net, x, f"{name}_{step}", conv, context.style, separable=op.kind == "separable")
    return x


def _steps(op: Operation, stride: int, filters: int) -> Mapping[str, Conv]:
    """The convolutions of an operation by name; the first has the stride, or each along its own axis."""
    side = op.kernel
    if op.kind == "separable":
        return {"sep0": Conv(filters, side, stride), "sep1": Conv(filters, side)}
    if op.kind == "factored":
        row, column = Conv(filters, (1, side), (1, stride)), Conv(filters, (side, 1), (stride, 1))
        return {"row": row, "column": column}
    if op.kind == "dilated":
        return {"dilated": Conv(filters, side, dilation=2 if stride == 1 else 1)}
    return {"full": Conv(filters, side, stride)}


def _step(
    net: Vocabulary[Tensor], x: Tensor, name: str, conv: Conv, style: Style, *, separable: bool = False
) -> Tensor:
    """The activation, a convolution, batch normalisation: the order in all cells."""
    x = net.activation(x, f"{name}_act", style.activation)
    if not separable:
        return conv_norm_act(net, x, name, conv, style, act=False)
    return net.batch_norm(net.separable(f"{name}_conv", conv)(x), f"{name}_bn", style.batch_norm)


def _output(net: Vocabulary[Tensor], maps: Sequence[Tensor], number: int, context: CellContext) -> Tensor:
    """A map of the cell's output; h and p may need the nodes' resolution and filters."""
    if number >= FIRST_NODE:
        return maps[number]
    name = f"{context.place.name}_out_{map_name(number)}"
    if net.size(maps[number]) != net.size(maps[-1]):
        return _halved(net, maps[number], name, context)
    return _widened(net, maps[number], name, context)
