"""Compound scaling's rounding rules (EfficientNet paper, section 3; reference `round_filters`)."""

from __future__ import annotations

import math

from effkeras.blocks import Stage, with_width
from effkeras.definition import NetworkSpec

DIVISOR = 8


def round_filters(filters: int, width: float, round_limit: float) -> int:
    """Channels after scaling by `width`: a multiple of 8, at least `round_limit` of the exact value."""
    if width == 1.0:
        return filters
    exact = filters * width
    rounded = max(DIVISOR, int(exact + DIVISOR / 2) // DIVISOR * DIVISOR)
    if rounded < round_limit * exact:
        rounded += DIVISOR
    return rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Blocks of a stage after scaling by `depth`."""
    return math.ceil(depth * repeats)


def scale_stages(network: NetworkSpec, stages: list[Stage]) -> list[Stage]:
    """All stages at the network's width and depth; `fixed_ends` keeps the first and last repeats."""
    last = len(stages) - 1

    def scaled(position: int, stage: Stage) -> Stage:
        is_fixed = network.fixed_ends and position in (0, last)
        repeats = stage.repeats if is_fixed else round_repeats(stage.repeats, network.depth)
        inputs = scale_stem(network) if position == 0 else _filters(network, stage.inputs)
        return with_width(stage, inputs, _filters(network, stage.outputs), repeats)

    return [scaled(position, stage) for position, stage in enumerate(stages)]


def scale_stem(network: NetworkSpec) -> int:
    """Channels of the stem convolution."""
    return network.stem if network.fixed_ends else _filters(network, network.stem)


def scale_head(network: NetworkSpec) -> int:
    """Channels of the 1x1 convolution before pooling."""
    return network.head if network.fixed_ends else _filters(network, network.head)


def _filters(network: NetworkSpec, filters: int) -> int:
    return round_filters(filters, network.width, network.round_limit)
