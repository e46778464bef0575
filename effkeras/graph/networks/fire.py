"""The kind "fire": SqueezeNet 1.0 and 1.1 (arXiv:1602.07360 and the authors' Caffe files)."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from effkeras.definitions.networks import NETWORKS, Network
from effkeras.graph.vocabulary import Conv, Pool, Tensor, Vocabulary

_MODULE = re.compile(r"s([1-9]\d*)_e([1-9]\d*)")


@NETWORKS.register("fire")
@dataclass(frozen=True, slots=True)
class FireNetwork(Network):
    """A network of fire modules (SqueezeNet, arXiv:1602.07360): `stages` of `s16_e64` strings.

    Each stage but the first starts with max pooling. A string is one module with s squeezing and e + e
    expanding filters. `padding` applies to stem and pooling; a detector needs "same".
    """

    stages: tuple[tuple[str, ...], ...]
    kind: Literal["fire"] = "fire"
    stem: int = 64
    stem_kernel: int = 3
    padding: Literal["valid", "same"] = "valid"
    dropout: float = 0.5

    def checks(self) -> dict[str, bool]:
        """Requirements on the table's values, and whether each holds."""
        return {
            "dropout must lie between 0 and 1": 0 <= self.dropout < 1,
            "stages must name at least one fire module each": all(self.stages) and len(self.stages) > 0,
            "stem and stem_kernel must be above 0": min(self.stem, self.stem_kernel) > 0,
            "a fire module is written like s16_e64": all(
                _MODULE.fullmatch(module) for stage in self.stages for module in stage
            ),
        }

    def for_pyramid(self) -> FireNetwork:
        """The network with "same" padding, so that maps cover the whole image."""
        return dataclasses.replace(self, padding="same")

    def features(self, net: Vocabulary[Tensor], x: Tensor) -> dict[int, Tensor]:
        """The last feature map of each level (level l has stride 2^l)."""
        stem = Conv(self.stem, self.stem_kernel, stride=2, bias=True, padding=self.padding)
        x = _conv(net, x, "stem", stem)
        maps = {1: x}
        index = 0
        for level, stage in enumerate(self.stages, start=2):
            x = net.pool(x, f"pool{level}", Pool("max", padding=self.padding))
            for module in stage:
                x = _fire(net, x, f"fire{index}", module)
                index += 1
            maps[level] = x
        return maps

    def logits(self, net: Vocabulary[Tensor], x: Tensor, classes: int) -> Tensor:
        """Logits (B, classes): dropout, a 1x1 convolution to the classes, ReLU and the mean, as published."""
        x = net.dropout(x, "head_dropout", self.dropout, whole_sample=False)
        x = net.conv(x, "logits", Conv(classes, bias=True))
        x = net.activation(x, "logits_act", "relu")
        return net.flatten(net.mean(x, "logits_mean"), "logits_flatten")

    def description(self) -> list[tuple[str, str]]:
        """Rows of `effkeras info`."""
        return [("fire modules", str(sum(map(len, self.stages))))]


def _fire(net: Vocabulary[Tensor], x: Tensor, name: str, module: str) -> Tensor:
    squeeze, expand = _decode(module)
    x = _conv(net, x, f"{name}_squeeze", Conv(squeeze, bias=True))
    points = _conv(net, x, f"{name}_expand1", Conv(expand, bias=True))
    windows = _conv(net, x, f"{name}_expand3", Conv(expand, kernel=3, bias=True))
    return net.concat([points, windows], f"{name}_concat")


def _conv(net: Vocabulary[Tensor], x: Tensor, name: str, conv: Conv) -> Tensor:
    return net.activation(net.conv(x, f"{name}_conv", conv), f"{name}_act", "relu")


def _decode(module: str) -> tuple[int, int]:
    squeeze, expand = _MODULE.fullmatch(module).groups()  # type: ignore[union-attr] # `checks` has matched it
    return int(squeeze), int(expand)
