"""The kinds of networks that a definition's `[network]` table can describe; `kind` tells which.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Activation = Literal["swish", "relu6", "relu", "hard_swish"]


@dataclass(frozen=True, slots=True)
class BatchNormSpec:
    """Batch normalisation's momentum and epsilon."""

    momentum: float = 0.99
    epsilon: float = 1e-3


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


Network = BlockNetwork | FireNetwork | ApplicationNetwork | ExternalNetwork


def network_problem(network: Network) -> str:
    """What is wrong with a network's figures, or an empty text."""
    checks = _checks(network)
    return next((text for text, holds in checks.items() if not holds), "")


def _checks(network: Network) -> dict[str, bool]:
    if isinstance(network, BlockNetwork):
        return _block_checks(network)
    if isinstance(network, FireNetwork):
        return _fire_checks(network)
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
        "width and depth must be above 0": network.width > 0 and network.depth > 0,
        "dropout and survival must lie between 0 and 1": (
            0 <= network.dropout < 1 and 0 <= network.survival <= 1
        ),
        "blocks must name at least one stage": len(network.blocks) > 0,
        "stem and head must be above 0": min(network.stem, network.head) > 0,
        "hidden must not be negative": network.hidden >= 0,
        "divisors must be above 0": min(network.expand_divisor, network.squeeze.divisor) > 0,
    }


def _fire_checks(network: FireNetwork) -> dict[str, bool]:
    return {
        "dropout must lie between 0 and 1": 0 <= network.dropout < 1,
        "stages must name at least one fire module each": all(network.stages) and len(network.stages) > 0,
        "stem and stem_kernel must be above 0": min(network.stem, network.stem_kernel) > 0,
    }
