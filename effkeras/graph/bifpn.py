"""BiFPN: a pyramid of feature maps, fused top-down and then bottom-up (EfficientDet paper, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effkeras.definitions.definition import FpnSpec
from effkeras.graph.vocabulary import Conv, Pool, Style, Tensor, Vocabulary, conv_norm_act


@dataclass(frozen=True, slots=True)
class Node:
    """One fusion of a cell: `inputs` index the cell's maps, its own inputs first, then its nodes' outputs."""

    index: int
    level: int
    inputs: tuple[int, ...]


def cell_nodes(low: int, high: int) -> tuple[Node, ...]:
    """The nodes of one cell over the levels low..high, in computing order.

    Top-down, every level below the highest fuses its input and the node above; bottom-up, every level above
    the lowest fuses its input, its top-down node (if any) and the node below.
    """
    count = high - low + 1
    latest = {level: level - low for level in range(low, high + 1)}
    nodes: list[Node] = []

    def add(level: int, inputs: tuple[int, ...]) -> None:
        nodes.append(Node(len(nodes), level, inputs))
        latest[level] = count + len(nodes) - 1

    for level in range(high - 1, low - 1, -1):
        add(level, (level - low, latest[level + 1]))
    for level in range(low + 1, high + 1):
        own = (level - low,) if level == high else (level - low, latest[level])
        add(level, (*own, latest[level - 1]))
    return tuple(nodes)


def style_of(fpn: FpnSpec) -> Style:
    """The style of the layers in the BiFPN and the heads."""
    return Style(fpn.activation, fpn.batch_norm)


def pyramid(net: Vocabulary[Tensor], maps: dict[int, Tensor], fpn: FpnSpec) -> list[Tensor]:
    """BiFPN maps of all levels, with equal channels, lowest level first.

    Args:
        net: the vocabulary that provides the operations.
        maps: the backbone's maps; pooling makes the levels above its highest.
        fpn: levels, channels, cells and the kind of fusion.
    """
    low, high = fpn.levels
    inputs = [maps[level] for level in range(low, min(high, max(maps)) + 1)]
    for level in range(low + len(inputs), high + 1):
        inputs.append(_coarser(net, inputs[-1], f"p{level}", fpn))
    for cell in range(fpn.cells):
        inputs = _cell(net, inputs, f"fpn{cell}", fpn)
    return inputs


def _coarser(net: Vocabulary[Tensor], x: Tensor, name: str, fpn: FpnSpec) -> Tensor:
    return net.pool(_project(net, x, name, fpn), f"{name}_pool", Pool())


def _cell(net: Vocabulary[Tensor], inputs: Sequence[Tensor], name: str, fpn: FpnSpec) -> list[Tensor]:
    low, high = fpn.levels
    sizes = [net.size(x) for x in inputs]
    maps = list(inputs)
    outputs: dict[int, Tensor] = {low + len(inputs) - 1: maps[-1]}
    for node in cell_nodes(low, high):
        node_name = f"{name}_node{node.index}"
        resampled = [
            _resample(net, maps[source], f"{node_name}_in{position}", sizes[node.level - low], fpn)
            for position, source in enumerate(node.inputs)
        ]
        maps.append(_combine(net, resampled, node_name, fpn))
        outputs[node.level] = maps[-1]
    return [outputs[level] for level in range(low, high + 1)]


def _resample(net: Vocabulary[Tensor], x: Tensor, name: str, size: tuple[int, int], fpn: FpnSpec) -> Tensor:
    x = _project(net, x, name, fpn)
    if net.size(x) == size:
        return x
    if net.size(x) > size:
        return net.pool(x, f"{name}_pool", Pool())
    return net.upsample(x, f"{name}_up", size)


def _project(net: Vocabulary[Tensor], x: Tensor, name: str, fpn: FpnSpec) -> Tensor:
    if net.nominal(x) == fpn.channels:
        return x
    conv = Conv(fpn.channels, bias=True)
    return conv_norm_act(net, x, name, conv, style_of(fpn), act=False)


def _combine(net: Vocabulary[Tensor], xs: Sequence[Tensor], name: str, fpn: FpnSpec) -> Tensor:
    fuse = net.fuse if fpn.fusion == "fast" else net.add
    x = fuse(xs, f"{name}_fuse")
    x = net.activation(x, f"{name}_act", fpn.activation)
    x = net.separable(f"{name}_conv", Conv(fpn.channels, kernel=3, bias=True))(x)
    return net.batch_norm(x, f"{name}_bn", fpn.batch_norm)
