"""Networks of blocks as they are built: what two definitions must share to be the same network."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from effkeras.blocks import decode, encode
from effkeras.graph.mbconv import Block, blocks_of
from effkeras.networks import BlockNetwork
from effkeras.scaling import scale_head, scale_hidden, scale_stages, scale_stem


class Built(NamedTuple):
    """All that the layers of one block depend on; blocks with equal records are the same."""

    inputs: int
    outputs: int
    stride: int
    kernels: tuple[int, ...]
    expanded: int
    expands: bool
    fused: bool
    squeeze: int
    has_skip: bool
    activation: str
    groups: tuple[int, int]


def built(network: BlockNetwork) -> tuple[Built, ...]:
    """The blocks of a network."""
    return tuple(_built(block, network.activation) for block in blocks_of(network))


def as_built(network: BlockNetwork) -> BlockNetwork:
    """The same network with its factors of width and depth multiplied out."""
    stages = scale_stages(network, [decode(text) for text in network.blocks])
    if not network.squeeze_excite:
        stages = [dataclasses.replace(stage, squeeze=0.0) for stage in stages]
    return dataclasses.replace(
        with_ends(network, network.width),
        blocks=tuple(map(encode, stages)),
        width=1.0,
        depth=1.0,
        squeeze_excite=True,
    )


def with_ends(network: BlockNetwork, width: float) -> BlockNetwork:
    """The network with stem and head `width` times as wide, as far as its family scales them."""
    scaled = dataclasses.replace(network, width=width)
    stem, head, hidden = scale_stem(scaled), scale_head(scaled), scale_hidden(scaled)
    return dataclasses.replace(network, stem=stem, head=head, hidden=hidden)


def _built(block: Block, activation: str) -> Built:
    stage, expands = block.stage, block.stage.expand != 1
    return Built(
        inputs=block.inputs,
        outputs=block.outputs,
        stride=block.stride,
        kernels=stage.kernels,
        expanded=block.expanded,
        expands=expands,
        fused=stage.fused,
        squeeze=block.squeeze,
        has_skip=block.has_skip,
        activation=stage.activation or activation,
        groups=(
            stage.expand_groups if expands and not stage.fused else 1,
            stage.project_groups if expands or not stage.fused else 1,
        ),
    )
