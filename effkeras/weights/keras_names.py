"""Maps effkeras' layers to the names in keras.applications, in the order of its graphs.

Files without layer names need the order: Keras 3 numbers the layers of each class in its files (`conv2d`,
`conv2d_1`, ...), and its first releases stored nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.genotype import OPERATIONS
from effkeras.graph.cell import PlacedCell
from effkeras.graph.mbconv import Block
from effkeras.graph.networks.application import ApplicationNetwork
from effkeras.graph.networks.blocks import BlockNetwork, blocks_of
from effkeras.graph.networks.cells import CellNetwork, cells_of
from effkeras.support.errors import EffkerasError

_TOP = ("logits", "hidden")
_NASNET_CONV = ("kernel",)
_NASNET_SEPARABLE = ("depthwise_kernel", "pointwise_kernel")
_NASNET_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_NASNET_DENSE = ("kernel", "bias")

NasnetWeights = Iterator[tuple[str, str, tuple[str, ...]]]


class KerasLayer(NamedTuple):
    """An effkeras layer, its name in keras.applications, and its class there in snake case."""

    ours: str
    theirs: str
    kind: str


Layers = Iterator[KerasLayer]


def keras_layers(spec: ModelSpec) -> list[KerasLayer]:
    """The layers with weights of a network that keras.applications also has; empty for any other.

    Layers with the same name in both are left out.
    """
    find = _LAYERS_BY_KIND.get(spec.network.kind)
    return [] if spec.is_detector or find is None else list(find(spec.network, spec))


def top_layers(layers: list[KerasLayer]) -> frozenset[str]:
    """effkeras' names of the layers that `include_top=False` leaves out."""
    return frozenset(layer.ours for layer in layers if layer.ours.startswith(_TOP))


def _nasnet(network: CellNetwork, spec: ModelSpec) -> Layers:
    try:
        names = nasnet_names(spec)
    except EffkerasError:
        return  # the cells differ: keras.applications has no such network
    for ours, theirs in {(layer, theirs) for (layer, _), theirs in names.items()}:
        yield KerasLayer(ours, theirs, "")


def _blocks(network: BlockNetwork, spec: ModelSpec) -> Layers:
    if spec.family == "efficientnet":
        return _efficientnet(network, "dwconv")
    if spec.family == "efficientnetv2":
        return _efficientnet(network, "dwconv2")
    if spec.family == "mobilenet":
        return _mobilenet_v3(network) if network.hidden else _mobilenet_v2(network)
    return iter(())


def _application_top(network: ApplicationNetwork, spec: ModelSpec) -> Layers:
    """effkeras builds only the classifier; all layers below have Keras's names."""
    own = {"MobileNet": "conv_preds"}
    yield KerasLayer("logits", own.get(network.function, "predictions"), "")
    for index in range(len(network.hidden)):
        yield KerasLayer(f"hidden{index}", f"fc{index + 1}", "")


def _efficientnet(network: BlockNetwork, depthwise: str) -> Layers:
    yield from _conv("stem", "stem_conv", "stem_bn")
    for block, prefix in _lettered(blocks_of(network)):
        name, stage = block.name, block.stage
        if stage.expand != 1:
            ours = f"{name}_fused" if stage.fused else f"{name}_expand"
            yield from _conv(ours, f"{prefix}_expand_conv", f"{prefix}_expand_bn")
        if not stage.fused:
            yield from _depthwise(name, f"{prefix}_{depthwise}", f"{prefix}_bn")
        if block.squeeze:
            yield KerasLayer(f"{name}_se_reduce", f"{prefix}_se_reduce", "conv2d")
            yield KerasLayer(f"{name}_se_expand", f"{prefix}_se_expand", "conv2d")
        # A fused block without expansion is one convolution, which Keras names as the projection.
        last = f"{name}_fused" if stage.fused and stage.expand == 1 else f"{name}_project"
        yield from _conv(last, f"{prefix}_project_conv", f"{prefix}_project_bn")
    yield from _conv("head", "top_conv", "top_bn")
    yield KerasLayer("logits", "predictions", "dense")


def _lettered(blocks: list[Block]) -> Iterator[tuple[Block, str]]:
    """Blocks with their Keras names: `block2b` is the second of the second stage."""
    stage = repeat = left = 0
    for block in blocks:
        if left == 0:
            stage, repeat, left = stage + 1, 0, block.stage.repeats
        yield block, f"block{stage}{chr(ord('a') + repeat)}"
        repeat, left = repeat + 1, left - 1


def _mobilenet_v2(network: BlockNetwork) -> Layers:
    yield from _conv("stem", "Conv1", "bn_Conv1")
    for index, block in enumerate(blocks_of(network)):
        prefix = f"block_{index}" if index else "expanded_conv"
        if block.stage.expand != 1:
            yield from _conv(f"{block.name}_expand", f"{prefix}_expand", f"{prefix}_expand_BN")
        yield from _depthwise(block.name, f"{prefix}_depthwise", f"{prefix}_depthwise_BN")
        yield from _conv(f"{block.name}_project", f"{prefix}_project", f"{prefix}_project_BN")
    yield from _conv("head", "Conv_1", "Conv_1_bn")
    yield KerasLayer("logits", "predictions", "dense")


def _mobilenet_v3(network: BlockNetwork) -> Layers:
    yield from _conv("stem", "conv", "conv_bn")
    for index, block in enumerate(blocks_of(network)):
        prefix = f"expanded_conv_{index}" if index else "expanded_conv"
        if block.stage.expand != 1:
            yield from _conv(f"{block.name}_expand", f"{prefix}_expand", f"{prefix}_expand_bn")
        yield from _depthwise(block.name, f"{prefix}_depthwise", f"{prefix}_depthwise_bn")
        if block.squeeze:
            squeeze = f"{prefix}_squeeze_excite_conv"
            yield KerasLayer(f"{block.name}_se_reduce", squeeze, "conv2d")
            yield KerasLayer(f"{block.name}_se_expand", f"{squeeze}_1", "conv2d")
        yield from _conv(f"{block.name}_project", f"{prefix}_project", f"{prefix}_project_bn")
    yield from _conv("head", "conv_1", "conv_1_bn")
    yield KerasLayer("hidden_conv", "conv_2", "conv2d")
    yield KerasLayer("logits", "logits", "conv2d")


def _conv(ours: str, conv: str, norm: str) -> Layers:
    yield KerasLayer(f"{ours}_conv", conv, "conv2d")
    yield KerasLayer(f"{ours}_bn", norm, "batch_normalization")


def _depthwise(block: str, conv: str, norm: str) -> Layers:
    yield KerasLayer(f"{block}_depthwise_conv", conv, "depthwise_conv2d")
    yield KerasLayer(f"{block}_depthwise_bn", norm, "batch_normalization")


def nasnet_names(spec: ModelSpec) -> dict[tuple[str, str], str]:
    """The `keras.applications` layer of each effkeras weight: (layer, weight) -> layer.

    Weights that a layer may lack are listed too; look up only those that the model has.

    Raises:
        EffkerasError: the cells or the stem differ from those of NASNetMobile and NASNetLarge.
    """
    network = CellNetwork.match(spec.network)
    if network is None:
        raise EffkerasError(f"{spec.name} is not a network of cells; only NASNets have these names")
    theirs = zoo.spec("nasnet-mobile").network
    for part in ("normal", "reduction", "stem_cells"):
        if getattr(network, part) != getattr(theirs, part):
            raise EffkerasError(f"{spec.name}: keras.applications has no NASNet with such {part}")
    return {(layer, weight): name for layer, name, weights in _nasnet_layers(network) for weight in weights}


def _nasnet_layers(network: CellNetwork) -> NasnetWeights:
    yield "stem_conv", "stem_conv1", _NASNET_CONV
    yield "stem_bn", "stem_bn1", _NASNET_BATCH_NORM
    for place in cells_of(network):
        yield from _nasnet_cell(place, _block_id(place.name, network.repeats))
    yield "logits", "predictions", _NASNET_DENSE


def _block_id(name: str, repeats: int) -> str:
    """The suffix of a cell's Keras layer names: a count of the cells that includes one reduction."""
    kind, index = name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))
    if kind == "stem":
        return f"stem_{index + 1}"
    if kind == "reduction":
        return f"reduce_{(index + 1) * repeats}"
    return str(index if index < repeats else index + 1)


def _nasnet_cell(place: PlacedCell, block: str) -> NasnetWeights:
    ours, kind = place.name, "reduction" if place.stride == 2 else "normal"
    yield f"{ours}_h_conv", f"{kind}_conv_1_{block}", _NASNET_CONV
    yield f"{ours}_h_bn", f"{kind}_bn_1_{block}", _NASNET_BATCH_NORM
    yield f"{ours}_p_conv", f"adjust_conv_projection_{block}", _NASNET_CONV
    yield f"{ours}_p_even_conv", f"adjust_conv_1_{block}", _NASNET_CONV
    yield f"{ours}_p_odd_conv", f"adjust_conv_2_{block}", _NASNET_CONV
    yield f"{ours}_p_bn", f"adjust_bn_{block}", _NASNET_BATCH_NORM
    for index, node in enumerate(place.cell.nodes):
        for side, branch in zip(("left", "right"), node, strict=True):
            if OPERATIONS[branch.op].kind == "separable":
                # Keras gives the fifth left operation of the reduction cell the name of the fourth.
                number = 4 if (kind, index, side) == ("reduction", 4, "left") else index + 1
                yield from _nasnet_separable(f"{ours}_node{index}_{side}", f"{kind}_{side}{number}_{block}")


def _nasnet_separable(ours: str, theirs: str) -> NasnetWeights:
    for step in range(2):
        yield f"{ours}_sep{step}_conv", f"separable_conv_{step + 1}_{theirs}", _NASNET_SEPARABLE
        yield f"{ours}_sep{step}_bn", f"separable_conv_{step + 1}_bn_{theirs}", _NASNET_BATCH_NORM


_LAYERS_BY_KIND: dict[str, Callable[[Any, ModelSpec], Layers]] = {
    "application": _application_top,
    "blocks": _blocks,
    "cells": _nasnet,
}
