"""The kinds of networks that a definition's `[network]` table can describe; `kind` tells which.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Literal

from effkeras.errors import EffkerasError
from effkeras.genotype import decode

FIRE_MODULE = re.compile(r"s([1-9]\d*)_e([1-9]\d*)")

# A factor of width or depth beyond this is a mistake: the largest published network has 5.3.
LARGEST = 100
MOST_REPEATS = 1000

BATCH_NORM = "batch_norm needs a momentum between 0 and 1 and an epsilon above 0"

Activation = Literal["swish", "relu6", "relu", "hard_swish"]


@dataclass(frozen=True, slots=True)
class BatchNormSpec:
    """Batch normalisation's momentum and epsilon."""

    momentum: float = 0.99
    epsilon: float = 1e-3

    @property
    def is_sound(self) -> bool:
        """Whether the figures make sense."""
        return 0 <= self.momentum < 1 and self.epsilon > 0


@dataclass(frozen=True, slots=True)
class SqueezeSpec:
    """How squeeze-and-excitation is made, where a block string asks for it.

    Its width is the ratio of a block's `of` channels, rounded to a multiple of `divisor`; `activation` is
    the one in its middle (the block's own when empty).
    """

    of: Literal["input", "expanded"] = "input"
    divisor: int = 1
    activation: Literal["", "relu"] = ""
    gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid"


@dataclass(frozen=True, slots=True)
class DropBlockSpec:
    """DropBlock (arXiv:1810.12890) after each block of the last two strides; a `keep` of 1 is none.

    `keep` is the share that the last stride's maps keep at the end of training; the stride before drops a
    quarter as much (the authors' ResNet). `size` is the side of the dropped squares.
    """

    keep: float = 1.0
    size: int = 7


@dataclass(frozen=True, slots=True)
class BlockNetwork:
    """A network of MBConv blocks: block strings and the factors that scale them.

    `fixed_ends` (EfficientNet-Lite) leaves stem, head and the repeats of the first and last stage alone;
    `fixed_stem` leaves the stem's width alone, `head_scaling` says when the head's width is scaled (`up`:
    only by factors above 1). `hidden` is the width of a second, dense layer of the head (MobileNetV3).
    Expanded widths are multiples of `expand_divisor`. `padding` "symmetric" is PyTorch's way of padding
    strided convolutions, for weights that come from there.
    """

    blocks: tuple[str, ...]
    kind: Literal["blocks"] = "blocks"
    stem: int = 32
    head: int = 1280
    hidden: int = 0
    width: float = 1.0
    depth: float = 1.0
    round_limit: float = 0.9
    fixed_ends: bool = False
    fixed_stem: bool = False
    head_scaling: Literal["always", "up", "never"] = "always"
    expand_divisor: int = 1
    activation: Activation = "swish"
    squeeze_excite: bool = True
    squeeze: SqueezeSpec = field(default_factory=SqueezeSpec)
    padding: Literal["same", "symmetric"] = "same"
    dropout: float = 0.2
    survival: float = 0.8
    drop_block: DropBlockSpec = field(default_factory=DropBlockSpec)
    batch_norm: BatchNormSpec = field(default_factory=BatchNormSpec)


@dataclass(frozen=True, slots=True)
class FireNetwork:
    """A network of fire modules (SqueezeNet, arXiv:1602.07360): `stages` of `s16_e64` strings.

    Each stage but the first starts with max pooling; a string is one module of s squeezing and e + e
    expanding filters. `padding` is that of stem and pooling; a detector needs "same".
    """

    stages: tuple[tuple[str, ...], ...]
    kind: Literal["fire"] = "fire"
    stem: int = 64
    stem_kernel: int = 3
    padding: Literal["valid", "same"] = "valid"
    dropout: float = 0.5


@dataclass(frozen=True, slots=True)
class CellNetwork:
    """A network of cells (NASNet, arXiv:1707.07012; PNASNet, arXiv:1712.00559).

    Three groups of `repeats` cells (the papers' N) with `filters` (F), twice and four times as many. `normal`
    and `reduction` are genotypes, see `effkeras.genotype`. Where the resolution halves stands a reduction
    cell; without that genotype, the group's first cell strides instead (PNASNet). With `skip_reduction` the
    cell after a reduction takes as p what the reduction took.

    `stem_cells` of 2 is the ImageNet stem, a strided convolution of `stem` filters and two reducing cells;
    0 is CIFAR's, a convolution that keeps the resolution. `padding` is that of the strided convolution: a
    detector whose sides are not multiples of 4 needs "same". `strided_pool` says how strided pooling pads:
    "zero" is keras.applications's way. Two convolutions halve the resolution of p; of an odd number of
    filters they make all ("all") or one less ("equal", slim's first way, which PNASNet's counts follow).
    `survival` is what drop-path keeps of the last cell's operations at the end of training. `auxiliary` is
    the weight of an auxiliary head's loss in `effkeras train`, 0.4 in the papers; the head exists in
    training only.
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


@dataclass(frozen=True, slots=True)
class ApplicationNetwork:
    """A network that `keras.applications` builds: its `function` by name, such as "DenseNet121".

    `taps` are the layers whose outputs are the last maps of stride 8, 16 and 32. `channel_order` is that of
    the published weights; the input here is always RGB. `padding` "same" pads the windows that the
    original does not, which a detector's pyramid needs. On top come the mean, with `norm_epsilon` a layer
    normalisation, dropout and the classes; with `hidden` not the mean but dense layers of these widths.
    """

    function: str
    taps: tuple[str, ...]
    kind: Literal["application"] = "application"
    channel_order: Literal["rgb", "bgr"] = "rgb"
    padding: Literal["own", "same"] = "own"
    hidden: tuple[int, ...] = ()
    norm_epsilon: float = 0.0
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class ExternalNetwork:
    """A Keras model of one's own: the layers that put out its maps of stride 8, 16, 32.

    What the model computes is in the `.keras` file only, so this cannot be built from a definition.
    """

    taps: tuple[str, ...]
    kind: Literal["external"] = "external"


Network = BlockNetwork | FireNetwork | CellNetwork | ApplicationNetwork | ExternalNetwork


def for_pyramid(network: Network) -> Network:
    """The network as a detector needs it: maps of all levels cover the picture. The weights stay the same."""
    if isinstance(network, FireNetwork | CellNetwork | ApplicationNetwork):
        return dataclasses.replace(network, padding="same")
    return network


def network_problem(network: Network) -> str:
    """What is wrong with a network's figures, or an empty text."""
    problem = next((text for text, holds in _checks(network).items() if not holds), "")
    return problem or (_genotype_problem(network) if isinstance(network, CellNetwork) else "")


def _checks(network: Network) -> dict[str, bool]:
    if isinstance(network, BlockNetwork):
        return _block_checks(network)
    if isinstance(network, FireNetwork):
        return _fire_checks(network)
    if isinstance(network, CellNetwork):
        return _cell_checks(network)
    if isinstance(network, ApplicationNetwork):
        return _application_checks(network)
    return {"taps must name a layer for each level from 3 on": 1 <= len(network.taps) <= 3}


def _application_checks(network: ApplicationNetwork) -> dict[str, bool]:
    return {
        "taps must name three layers, of stride 8, 16 and 32": len(network.taps) == 3,
        "dropout must lie between 0 and 1": 0 <= network.dropout < 1,
        "hidden widths must be above 0": min(network.hidden, default=1) > 0,
        "norm_epsilon must not be negative": network.norm_epsilon >= 0,
    }


def _block_checks(network: BlockNetwork) -> dict[str, bool]:
    return {
        f"width must be above 0 and at most {LARGEST}, not {network.width:g}": 0 < network.width <= LARGEST,
        f"depth must be above 0 and at most {LARGEST}, not {network.depth:g}": 0 < network.depth <= LARGEST,
        "dropout and survival must lie between 0 and 1": (
            0 <= network.dropout < 1 and 0 <= network.survival <= 1
        ),
        "drop_block.keep must be above 0 and at most 1": 0 < network.drop_block.keep <= 1,
        "drop_block.size must be above 0": network.drop_block.size > 0,
        "blocks must name at least one stage": len(network.blocks) > 0,
        "stem and head must be above 0": min(network.stem, network.head) > 0,
        "hidden must not be negative": network.hidden >= 0,
        "divisors must be above 0": min(network.expand_divisor, network.squeeze.divisor) > 0,
        "round_limit must lie between 0 and 1": 0 <= network.round_limit <= 1,
        BATCH_NORM: network.batch_norm.is_sound,
    }


def _fire_checks(network: FireNetwork) -> dict[str, bool]:
    return {
        "dropout must lie between 0 and 1": 0 <= network.dropout < 1,
        "stages must name at least one fire module each": all(network.stages) and len(network.stages) > 0,
        "stem and stem_kernel must be above 0": min(network.stem, network.stem_kernel) > 0,
        "a fire module is written like s16_e64": all(
            FIRE_MODULE.fullmatch(module) for stage in network.stages for module in stage
        ),
    }


def _cell_checks(network: CellNetwork) -> dict[str, bool]:
    return {
        "repeats, filters and stem must be above 0": min(network.repeats, network.filters, network.stem) > 0,
        "stem_cells must be 0, 1 or 2": network.stem_cells in (0, 1, 2),
        f"{network.filters} filters are too few: the first cell gets less than 2": (
            network.filters // 2 ** max(network.stem_cells, 0) >= 2
        ),
        f"{network.repeats} repeats are more than {MOST_REPEATS}": network.repeats <= MOST_REPEATS,
        "skip_reduction needs a reduction cell": bool(network.reduction) or not network.skip_reduction,
        "dropout must lie between 0 and 1": 0 <= network.dropout < 1,
        "survival must lie above 0 and up to 1": 0 < network.survival <= 1,
        "auxiliary must not be negative": network.auxiliary >= 0,
        BATCH_NORM: network.batch_norm.is_sound,
    }


def _genotype_problem(network: CellNetwork) -> str:
    genotypes = {"normal": network.normal, **({"reduction": network.reduction} if network.reduction else {})}
    for name, genotype in genotypes.items():
        try:
            decode(genotype)
        except EffkerasError as error:
            return f"{name} cell: {error}"
    return ""
