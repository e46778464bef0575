"""Networks of cells: NASNet-A and PNASNet-5 (slim `nasnet.py` and `pnasnet.py` of tensorflow/models)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from effkeras.genotype import decode
from effkeras.graph.cell import Making, PlacedCell, cell, output_name
from effkeras.graph.vocabulary import Conv, Pool, Style, Tensor, Vocabulary, conv_norm_act
from effkeras.networks import CellNetwork

GROUPS = 3
# The name of the auxiliary head's output; whatever is not training leaves it out.
AUXILIARY = "auxiliary"
# Of the auxiliary head: its pooling, and the filters of its two convolutions (slim `_build_aux_head`).
_AUXILIARY_POOL = (5, 3)
_AUXILIARY_FILTERS = (128, 768)


def style_of(network: CellNetwork) -> Style:
    """What the network's layers have in common."""
    return Style(network.activation, network.batch_norm, padding=network.padding)


def cells_of(network: CellNetwork) -> list[PlacedCell]:
    """All cells in order, the stem's included: `stem0`, `cell0`, `reduction0`, ..."""
    layout = list(_layout(network))
    placed: list[PlacedCell] = []
    level = 0 if network.stem_cells == 0 else 1
    for index, slot in enumerate(layout):
        level += slot.halves
        genotype = network.reduction if slot.halves and network.reduction else network.normal
        placed.append(
            PlacedCell(
                name=slot.name,
                cell=decode(genotype),
                filters=int(network.filters * 2.0**slot.doublings),
                stride=2 if slot.halves else 1,
                level=level,
                previous=_previous(network, layout, index),
                keep=1 - (index + 1) / len(layout) * (1 - network.survival),
            )
        )
    return placed


def features(net: Vocabulary[Tensor], x: Tensor, network: CellNetwork) -> dict[int, Tensor]:
    """The last feature map of each level (level l has stride 2^l), from the normalised picture.

    Those are the maps before each reduction and the last; no activation has been applied to them.
    """
    style = style_of(network)
    strided = Conv(network.stem, kernel=3, stride=2, padding=network.padding)
    stem = strided if network.stem_cells else Conv(network.stem, kernel=3)
    outputs = [conv_norm_act(net, x, "stem", stem, style, act=False)]
    maps = {1 if network.stem_cells else 0: outputs[0]}
    for place in cells_of(network):
        p = None if place.previous is None else outputs[place.previous]
        outputs.append(cell(net, outputs[-1], p, Making(place, style, network)))
        maps[place.level] = outputs[-1]
    return maps


def top(net: Vocabulary[Tensor], x: Tensor, network: CellNetwork) -> Tensor:
    """(B, channels) from the last map: the activation, the mean, dropout."""
    x = net.activation(x, "head_act", network.activation)
    x = net.flatten(net.mean(x, "head_mean"), "head_flatten")
    return net.dropout(x, "head_dropout", network.dropout, whole_sample=False)


def auxiliary_map(network: CellNetwork) -> str:
    """The layer whose map the auxiliary head looks at: the last before the last reduction."""
    cells = cells_of(network)
    before = [place for place in cells if place.level < cells[-1].level]
    return output_name(before[-1])


def auxiliary(net: Vocabulary[Tensor], x: Tensor, network: CellNetwork, classes: int) -> Tensor:
    """(B, classes) logits from the map before the last reduction (Inception paper, arXiv:1409.4842).

    Pooling, a 1x1 convolution, one as large as what is left, and a dense layer.
    """
    style = style_of(network)
    narrow, wide = _AUXILIARY_FILTERS
    window, stride = _AUXILIARY_POOL
    x = net.activation(x, "auxiliary_act", style.activation)
    window = min(window, *net.size(x))  # small pictures
    x = net.pool(x, "auxiliary_pool", Pool("average", window, stride, "valid"))
    x = conv_norm_act(net, x, "auxiliary_narrow", Conv(narrow), style)
    whole = Conv(wide, kernel=net.size(x), padding="valid")
    x = conv_norm_act(net, x, "auxiliary_wide", whole, style)
    return net.dense(net.flatten(x, "auxiliary_flatten"), "auxiliary_logits", classes)


class _Slot(NamedTuple):
    """Where a cell stands: whether it halves the resolution, and how often the filters have doubled."""

    name: str
    halves: bool
    doublings: int


def _layout(network: CellNetwork) -> Iterator[_Slot]:
    for index in range(network.stem_cells):
        yield _Slot(f"stem{index}", True, index - network.stem_cells)
    for index in range(GROUPS * network.repeats):
        group, position = divmod(index, network.repeats)
        halves = group > 0 and position == 0
        if halves and network.reduction:
            yield _Slot(f"reduction{group - 1}", True, group)
        yield _Slot(f"cell{index}", halves and not network.reduction, group)


def _previous(network: CellNetwork, layout: list[_Slot], index: int) -> int | None:
    """Which output is p, where 0 is the stem's and i + 1 that of cell i; h is number `index`."""
    after_reduction = index > 0 and layout[index - 1].name.startswith("reduction")
    back = 2 if after_reduction and network.skip_reduction else 1
    return index - back if index >= back else None
