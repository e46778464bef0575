"""Networks of fire modules: SqueezeNet 1.0 and 1.1 (arXiv:1602.07360 and the authors' Caffe files)."""

from __future__ import annotations

from effkeras.graph.vocabulary import Conv, Pool, Tensor, Vocabulary
from effkeras.networks import FIRE_MODULE, FireNetwork


def features(net: Vocabulary[Tensor], x: Tensor, network: FireNetwork) -> dict[int, Tensor]:
    """The last feature map of each level (level l has stride 2^l), from the normalised picture."""
    stem = Conv(network.stem, network.stem_kernel, stride=2, bias=True, padding=network.padding)
    x = _conv(net, x, "stem", stem)
    maps = {1: x}
    index = 0
    for level, stage in enumerate(network.stages, start=2):
        x = net.pool(x, f"pool{level}", Pool("max", padding=network.padding))
        for module in stage:
            x = _fire(net, x, f"fire{index}", module)
            index += 1
        maps[level] = x
    return maps


def logits(net: Vocabulary[Tensor], x: Tensor, network: FireNetwork, classes: int) -> Tensor:
    """(B, classes): dropout, a 1x1 convolution to the classes, ReLU and the mean, as published."""
    x = net.dropout(x, "head_dropout", network.dropout, whole_sample=False)
    x = net.conv(x, "logits", Conv(classes, bias=True))
    x = net.activation(x, "logits_act", "relu")
    return net.flatten(net.mean(x, "logits_mean"), "logits_flatten")


def _fire(net: Vocabulary[Tensor], x: Tensor, name: str, module: str) -> Tensor:
    squeeze, expand = _decode(module)
    x = _conv(net, x, f"{name}_squeeze", Conv(squeeze, bias=True))
    points = _conv(net, x, f"{name}_expand1", Conv(expand, bias=True))
    windows = _conv(net, x, f"{name}_expand3", Conv(expand, kernel=3, bias=True))
    return net.concat([points, windows], f"{name}_concat")


def _conv(net: Vocabulary[Tensor], x: Tensor, name: str, conv: Conv) -> Tensor:
    return net.activation(net.conv(x, f"{name}_conv", conv), f"{name}_act", "relu")


def _decode(module: str) -> tuple[int, int]:
    squeeze, expand = FIRE_MODULE.fullmatch(module).groups()  # type: ignore[union-attr] # checked with the network
    return int(squeeze), int(expand)
