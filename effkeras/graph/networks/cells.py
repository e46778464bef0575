"""The kind "cells": NASNet-A and PNASNet-5 (slim `nasnet.py` and `pnasnet.py` of tensorflow/models)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from effkeras.definitions.genotype import decode
from effkeras.definitions.networks import (
    BATCH_NORM,
    MOST_REPEATS,
    NETWORKS,
    Activation,
    BatchNormSpec,
    Network,
)
from effkeras.definitions.scaling import round_repeats
from effkeras.graph.cell import CellContext, PlacedCell, cell, output_name
from effkeras.graph.vocabulary import Conv, Pool, Style, Tensor, Vocabulary, conv_norm_act
from effkeras.support.errors import EffkerasError

GROUPS = 3
# Pooling window and stride of the auxiliary head, and its convolutions' filters (slim `_build_aux_head`).
_AUXILIARY_POOL = (5, 3)
_AUXILIARY_FILTERS = (128, 768)


@NETWORKS.register("cells")
@dataclass(frozen=True, slots=True)
class CellNetwork(Network):
    """A network of cells (NASNet, arXiv:1707.07012; PNASNet, arXiv:1712.00559).

    It has three groups of `repeats` cells (the papers' N) with `filters` (F), 2 F and 4 F filters. `normal`
    and `reduction` are genotypes, see `effkeras.definitions.genotype`. A reduction cell halves the
    resolution; without that genotype, the group's first cell strides instead (PNASNet). With
    `skip_reduction`, the cell after a reduction uses the reduction's input as p.

    `stem_cells` of 2 is the ImageNet stem, a strided convolution of `stem` filters and two reducing cells;
    0 is CIFAR's, a convolution that keeps the resolution. `padding` is that of the strided convolution: a
    detector with sides that are not multiples of 4 needs "same". `strided_pool` is the padding of strided
    pooling: "zero" is that of keras.applications. Two convolutions halve the resolution of p; for an odd
    number of filters they make all of them ("all") or one less ("equal", slim's first version, on which
    PNASNet's counts are based). `survival` is the share that drop-path keeps of the last cell's operations
    at the end of training. `auxiliary` is the weight of an auxiliary head's loss in `effkeras train`, 0.4 in
    the papers; the head exists in training only.
    """

    normal: tuple[str, ...]
    repeats: int
    filters: int
    reduction: tuple[str, ...] = ()
    kind: Literal["cells"] = "cells"
    stem: int = 32
    stem_cells: int = 2
    skip_reduction: bool = False
    activation: Activation = "relu"
    padding: Literal["valid", "same"] = "valid"
    strided_pool: Literal["same", "zero"] = "same"
    odd_halves: Literal["all", "equal"] = "all"
    dropout: float = 0.5
    survival: float = 1.0
    auxiliary: float = 0.0
    batch_norm: BatchNormSpec = field(default_factory=BatchNormSpec)

    @property
    def style(self) -> Style:
        """Settings that the network's layers share."""
        return Style(self.activation, self.batch_norm, padding=self.padding)

    def problem(self) -> str:
        """The first problem of the table's values or genotypes, or an empty text."""
        failed = (text for text, holds in self.checks().items() if not holds)
        return next(failed, "") or _genotype_problem(self)

    def checks(self) -> dict[str, bool]:
        """Requirements on the table's values, and whether each holds."""
        return {
            "repeats, filters and stem must be above 0": min(self.repeats, self.filters, self.stem) > 0,
            "stem_cells must be 0, 1 or 2": self.stem_cells in (0, 1, 2),
            f"{self.filters} filters are too few: the first cell gets less than 2": (
                self.filters // 2 ** max(self.stem_cells, 0) >= 2
            ),
            f"{self.repeats} repeats are more than {MOST_REPEATS}": self.repeats <= MOST_REPEATS,
            "skip_reduction needs a reduction cell": bool(self.reduction) or not self.skip_reduction,
            "dropout must lie between 0 and 1": 0 <= self.dropout < 1,
            "survival must lie above 0 and up to 1": 0 < self.survival <= 1,
            "auxiliary must not be negative": self.auxiliary >= 0,
            BATCH_NORM: self.batch_norm.is_valid,
        }

    def for_pyramid(self) -> CellNetwork:
        """The network with "same" padding, so that maps cover the whole image."""
        return dataclasses.replace(self, padding="same")

    def features(self, net: Vocabulary[Tensor], x: Tensor) -> dict[int, Tensor]:
        """The last feature map of each level (level l has stride 2^l).

        These are the maps before each reduction and the last map, without activation.
        """
        strided = Conv(self.stem, kernel=3, stride=2, padding=self.padding)
        stem = strided if self.stem_cells else Conv(self.stem, kernel=3)
        outputs = [conv_norm_act(net, x, "stem", stem, self.style, act=False)]
        maps = {1 if self.stem_cells else 0: outputs[0]}
        for place in cells_of(self):
            p = None if place.previous is None else outputs[place.previous]
            context = CellContext(place, self.style, self.strided_pool, self.odd_halves)
            outputs.append(cell(net, outputs[-1], p, context))
            maps[place.level] = outputs[-1]
        return maps

    def logits(self, net: Vocabulary[Tensor], x: Tensor, classes: int) -> Tensor:
        """Logits (B, classes) from the last map: the activation, the mean, dropout, a dense layer."""
        x = net.activation(x, "head_act", self.activation)
        x = net.flatten(net.mean(x, "head_mean"), "head_flatten")
        x = net.dropout(x, "head_dropout", self.dropout, whole_sample=False)
        return net.dense(x, "logits", classes)

    @property
    def auxiliary_weight(self) -> float:
        """The weight of the auxiliary head's loss."""
        return self.auxiliary

    @property
    def auxiliary_layer(self) -> str:
        """The layer whose output feeds the auxiliary head: the last one before the last reduction."""
        cells = cells_of(self)
        return output_name([place for place in cells if place.level < cells[-1].level][-1])

    def auxiliary_logits(self, net: Vocabulary[Tensor], x: Tensor, classes: int) -> Tensor:
        """Logits (B, classes) from the map before the last reduction (Inception paper, arXiv:1409.4842).

        Pooling, a 1x1 convolution, a convolution over the whole remaining map, and a dense layer.
        """
        narrow, wide = _AUXILIARY_FILTERS
        window, stride = _AUXILIARY_POOL
        x = net.activation(x, "auxiliary_act", self.activation)
        window = min(window, *net.size(x))  # small images
        x = net.pool(x, "auxiliary_pool", Pool("average", window, stride, "valid"))
        x = conv_norm_act(net, x, "auxiliary_narrow", Conv(narrow), self.style)
        whole = Conv(wide, kernel=net.size(x), padding="valid")
        x = conv_norm_act(net, x, "auxiliary_wide", whole, self.style)
        return net.dense(net.flatten(x, "auxiliary_flatten"), "auxiliary_logits", classes)

    def scaled(self, width: float, depth: float) -> CellNetwork:
        """More cells with more filters, in multiples of 4: the first stem cell has a quarter of them."""
        filters, stem = (
            count if width == 1 else max(1, math.floor(count * width / 4 + 0.5)) * 4
            for count in (self.filters, self.stem)
        )
        return dataclasses.replace(
            self, filters=filters, stem=stem, repeats=round_repeats(self.repeats, depth)
        )

    def with_activations(self, change: Callable[[Activation], Activation]) -> CellNetwork:
        """The network with its activation replaced by `change(activation)`."""
        return dataclasses.replace(self, activation=change(self.activation))

    def description(self) -> list[tuple[str, str]]:
        """Rows of `effkeras info`."""
        cells = cells_of(self)
        strided = sum(cell.stride == 2 for cell in cells)
        keeps = f"{self.survival:g} of the last cell at the end of training"
        head = f"in training, weight {self.auxiliary:g}" if self.auxiliary else "none"
        return [
            ("cells", f"{len(cells)}, of which {strided} halve the resolution"),
            ("filters", ", ".join(dict.fromkeys(str(cell.filters) for cell in cells))),
            ("normal cell", "\n".join(self.normal)),
            *([("reduction cell", "\n".join(self.reduction))] if self.reduction else []),
            ("drop-path keeps", keeps if self.survival < 1 else "all"),
            ("auxiliary head", head),
        ]

    def scale_columns(self) -> tuple[str, str]:
        """Depth and width in `effkeras scale`: cells per group, and filters."""
        return f"{self.repeats} cells", str(self.filters)


def cells_of(network: CellNetwork) -> list[PlacedCell]:
    """All cells in order, including the stem's: `stem0`, `cell0`, `reduction0`, ..."""
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


class _Slot(NamedTuple):
    """A cell's position: whether it halves the resolution, and how often the filters have doubled."""

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
    """The index of the output used as p: 0 is the stem's, i + 1 that of cell i; h has the number `index`."""
    after_reduction = index > 0 and layout[index - 1].name.startswith("reduction")
    back = 2 if after_reduction and network.skip_reduction else 1
    return index - back if index >= back else None


def _genotype_problem(network: CellNetwork) -> str:
    genotypes = {"normal": network.normal, **({"reduction": network.reduction} if network.reduction else {})}
    for name, genotype in genotypes.items():
        try:
            decode(genotype)
        except EffkerasError as error:
            return f"{name} cell: {error}"
    return ""
