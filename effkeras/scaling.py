"""Compound scaling's rounding rules (EfficientNet paper, section 3; reference `round_filters`)."""

from __future__ import annotations

import math

from effkeras.blocks import Stage, with_width
from effkeras.networks import BlockNetwork

DIVISOR = 8


def round_filters(filters: int, width: float, round_limit: float) -> int:
    """Channels after scaling by `width`: a multiple of 8, at least `round_limit` of the exact value."""
    return filters if width == 1.0 else round_to(filters * width, DIVISOR, round_limit)


def round_to(exact: float, divisor: int, round_limit: float) -> int:
    """The nearest multiple of `divisor` above 0, or the next one if that is below `round_limit` of it."""
    rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * exact else rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Blocks of a stage after scaling by `depth`."""
    return math.ceil(depth * repeats)


def scale_stages(network: BlockNetwork, stages: list[Stage]) -> list[Stage]:
    """All stages at the network's width and depth; `fixed_ends` keeps the first and last repeats."""
    last = len(stages) - 1

    def scaled(position: int, stage: Stage) -> Stage:
        is_fixed = network.fixed_ends and position in (0, last)
        repeats = stage.repeats if is_fixed else round_repeats(stage.repeats, network.depth)
        inputs, outputs = _filters(network, stage.inputs), _filters(network, stage.outputs)
        return with_width(stage, inputs, outputs, repeats)

    return [scaled(position, stage) for position, stage in enumerate(stages)]


def scale_stem(network: BlockNetwork) -> int:
    """Channels of the stem convolution."""
    is_fixed = network.fixed_ends or network.fixed_stem
    return network.stem if is_fixed else _filters(network, network.stem)


def scale_head(network: BlockNetwork) -> int:
    """Channels of the 1x1 convolution before pooling."""
    is_scaled = {"always": True, "never": False, "up": network.width > 1}[network.head_scaling]
    return _filters(network, network.head) if is_scaled and not network.fixed_ends else network.head


def scale_hidden(network: BlockNetwork) -> int:
    """Units of the head's second layer, 0 for none; only factors above 1 scale it (MobileNetV3)."""
    return _filters(network, network.hidden) if network.hidden and network.width > 1 else network.hidden


def _filters(network: BlockNetwork, filters: int) -> int:
    return round_filters(filters, network.width, network.round_limit)
