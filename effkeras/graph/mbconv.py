"""MBConv blocks: mobile inverted bottlenecks and their stages (EfficientNet paper, table 1)."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

from effkeras.definitions.blocks import Stage
from effkeras.graph.vocabulary import Conv, Depthwise, Style, Tensor, Vocabulary, conv_norm_act


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a scaled network."""

    name: str
    stage: Stage
    inputs: int
    expanded: int
    outputs: int
    stride: int
    squeeze: int
    drop: float

    @property
    def has_skip(self) -> bool:
        """Whether the input is added to the output."""
        return self.stage.skip and self.stride == 1 and self.inputs == self.outputs


def is_last_of_stride(blocks: list[Block], index: int) -> bool:
    """Whether a block is the last before the resolution halves, or the last of all."""
    return index + 1 == len(blocks) or blocks[index + 1].stride == 2


def mbconv(net: Vocabulary[Tensor], x: Tensor, block: Block, style: Style) -> Tensor:
    """Expansion, depthwise convolution, squeeze-and-excitation, projection, and the shortcut.

    A plain block has a 1x1 expansion and a depthwise convolution. A fused block replaces both by one dense
    convolution, which without expansion is the whole block (EfficientNetV2 paper, figure 2).
    """
    shortcut, name = x, block.name
    if block.stage.activation:
        style = dataclasses.replace(style, activation=block.stage.activation)
    x = _fused(net, x, block, style) if block.stage.fused else _filtered(net, x, block, style)
    if block.squeeze:
        x = squeeze_excite(net, x, block, style)
    if block.stage.expand != 1 or not block.stage.fused:
        x = _grouped(net, x, f"{name}_project_conv", (block.outputs, block.stage.project_groups))
        x = net.batch_norm(x, f"{name}_project_bn", style.batch_norm)
    if not block.has_skip:
        return x
    x = net.dropout(x, f"{name}_drop", block.drop, whole_sample=True)
    return net.add([x, shortcut], f"{name}_add")


def _fused(net: Vocabulary[Tensor], x: Tensor, block: Block, style: Style) -> Tensor:
    name = f"{block.name}_fused"
    width = block.expanded if block.stage.expand != 1 else block.outputs
    conv = Conv(width, block.stage.kernels[0], block.stride, padding=style.padding)
    return conv_norm_act(net, x, name, conv, style)


def _filtered(net: Vocabulary[Tensor], x: Tensor, block: Block, style: Style) -> Tensor:
    name = block.name
    if block.stage.expand != 1:
        x = _grouped(net, x, f"{name}_expand_conv", (block.expanded, block.stage.expand_groups))
        x = net.batch_norm(x, f"{name}_expand_bn", style.batch_norm)
        x = net.activation(x, f"{name}_expand_act", style.activation)
    x = _mixed(net, x, block, style)
    x = net.batch_norm(x, f"{name}_depthwise_bn", style.batch_norm)
    return net.activation(x, f"{name}_depthwise_act", style.activation)


def _mixed(net: Vocabulary[Tensor], x: Tensor, block: Block, style: Style) -> Tensor:
    """A depthwise convolution, or several with different kernels, each on a share of the channels."""
    name, kernels = f"{block.name}_depthwise_conv", block.stage.kernels
    windows = [Depthwise(kernel, block.stride, style.padding) for kernel in kernels]
    if len(windows) == 1:
        return net.depthwise(x, name, windows[0])
    parts = _split(net, x, name, len(windows))
    filtered = [
        net.depthwise(part, f"{name}_k{window.kernel}", window)
        for part, window in zip(parts, windows, strict=True)
    ]
    return net.concat(filtered, f"{name}_concat")


def _grouped(net: Vocabulary[Tensor], x: Tensor, name: str, shape: tuple[int, int]) -> Tensor:
    """A 1x1 convolution to `shape[0]` filters in `shape[1]` groups, one layer each as in the reference."""
    filters, groups = shape
    if groups == 1:
        return net.conv(x, name, Conv(filters))
    parts = _split(net, x, name, groups)
    convolved = [
        net.conv(part, f"{name}_g{index}", Conv(width))
        for index, (part, width) in enumerate(zip(parts, _shares(filters, groups), strict=True))
    ]
    return net.concat(convolved, f"{name}_concat")


def _split(net: Vocabulary[Tensor], x: Tensor, name: str, parts: int) -> list[Tensor]:
    edges = list(itertools.accumulate(_shares(net.channels(x), parts), initial=0))
    return [
        net.take(x, f"{name}_part{index}", start, stop)
        for index, (start, stop) in enumerate(itertools.pairwise(edges))
    ]


def _shares(channels: int, parts: int) -> list[int]:
    """Equal shares; the first also gets the remainder (MixNet reference code)."""
    share = channels // parts
    return [channels - share * (parts - 1), *[share] * (parts - 1)]


def squeeze_excite(net: Vocabulary[Tensor], x: Tensor, block: Block, style: Style) -> Tensor:
    """Scales each channel by a gate computed from all channels' means (Hu et al. 2018)."""
    name, kind = block.name, style.squeeze
    gate = net.mean(x, f"{name}_se_mean")
    gate = net.conv(gate, f"{name}_se_reduce", Conv(block.squeeze, bias=True))
    gate = net.activation(gate, f"{name}_se_act", kind.activation or style.activation)
    gate = net.conv(gate, f"{name}_se_expand", Conv(net.channels(x), bias=True))
    gate = net.activation(gate, f"{name}_se_gate", kind.gate)
    return net.multiply(x, gate, f"{name}_se_scale")
