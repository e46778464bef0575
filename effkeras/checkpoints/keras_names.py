"""Our layers under the names that keras.applications gives them, in the order of its graphs.

The order serves files that hold no layer names: Keras 3 numbers the layers of each class in its files
(`conv2d`, `conv2d_1`, ...), and its first releases stored nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from effkeras.checkpoints.keras_nasnet import nasnet_names
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.graph.mbconv import Block, blocks_of
from effkeras.networks import ApplicationNetwork, BlockNetwork, CellNetwork

_TOP = ("logits", "hidden")


class KerasLayer(NamedTuple):
    """A layer here, its name in keras.applications, and its class in snake case there."""

    ours: str
    theirs: str
    kind: str


Layers = Iterator[KerasLayer]


def keras_layers(spec: ModelSpec) -> list[KerasLayer]:
    """The layers with weights of a network that keras.applications has too; empty for any other.

    Layers that have Keras's own names here are left out.
    """
    network = spec.network
    if spec.is_detector:
        return []
    if isinstance(network, CellNetwork):
        return _nasnet(spec)
    if isinstance(network, ApplicationNetwork):
        return [*_application_top(network)]
    if not isinstance(network, BlockNetwork):
        return []
    if spec.family == "efficientnet":
        return [*_efficientnet(network, "dwconv")]
    if spec.family == "efficientnetv2":
        return [*_efficientnet(network, "dwconv2")]
    if spec.family == "mobilenet":
        return [*(_mobilenet_v3(network) if network.hidden else _mobilenet_v2(network))]
    return []


def top_layers(layers: list[KerasLayer]) -> frozenset[str]:
    """Ours of the layers that `include_top=False` leaves out."""
    return frozenset(layer.ours for layer in layers if layer.ours.startswith(_TOP))


def _nasnet(spec: ModelSpec) -> list[KerasLayer]:
    try:
        names = nasnet_names(spec)
    except EffkerasError:
        return []  # other cells: keras.applications has no such network
    return [KerasLayer(*pair, "") for pair in {(layer, theirs) for (layer, _), theirs in names.items()}]


def _application_top(network: ApplicationNetwork) -> Layers:
    """The classifier is ours; all below has Keras's names."""
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
        # A fused block without expansion is one convolution, which Keras calls the projection.
        last = f"{name}_fused" if stage.fused and stage.expand == 1 else f"{name}_project"
        yield from _conv(last, f"{prefix}_project_conv", f"{prefix}_project_bn")
    yield from _conv("head", "top_conv", "top_bn")
    yield KerasLayer("logits", "predictions", "dense")


def _lettered(blocks: list[Block]) -> Iterator[tuple[Block, str]]:
    """Blocks with their names there: `block2b` is the second of the second stage."""
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
