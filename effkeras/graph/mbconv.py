"""Mobile inverted bottleneck blocks and the stages that they form (EfficientNet paper, table 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from effkeras.blocks import Stage, decode
from effkeras.definition import NetworkSpec
from effkeras.graph.vocabulary import Conv, Style, Tensor, Vocabulary, conv_norm_act
from effkeras.scaling import scale_stages


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a scaled network."""

    name: str
    stage: Stage
    inputs: int
    outputs: int
    stride: int
    squeeze: int
    drop: float

    @property
    def expanded(self) -> int:
        """Channels between the expanding and the projecting convolution."""
        return int(self.inputs * self.stage.expand)

    @property
    def has_skip(self) -> bool:
        """Whether the input is added to the output."""
        return self.stage.skip and self.stride == 1 and self.inputs == self.outputs


def blocks_of(network: NetworkSpec) -> list[Block]:
    """All blocks in order, with their own stochastic depth: linear in the position, 0 at the first."""
    stages = scale_stages(network, [decode(text) for text in network.blocks])
    total = sum(stage.repeats for stage in stages)
    drop = 1.0 - network.survival
    return [
        _block(network, stage, repeat, index, drop * index / total)
        for index, (stage, repeat) in enumerate(_positions(stages))
    ]


def is_last_of_stride(blocks: list[Block], index: int) -> bool:
    """Whether a block is the last before the resolution halves, or the very last."""
    return index + 1 == len(blocks) or blocks[index + 1].stride == 2


def mbconv(net: Vocabulary[Tensor], x: Tensor, block: Block, style: Style) -> Tensor:
    """Expand (1x1), filter (depthwise), squeeze and excite, project (1x1), and add the input."""
    shortcut, name = x, block.name
    if block.stage.expand != 1:
        width = style.width(f"{name}_expand_conv", block.expanded)
        x = conv_norm_act(net, x, f"{name}_expand", Conv(width), style)
    x = net.depthwise(x, f"{name}_depthwise_conv", block.stage.kernel, block.stride)
    x = net.batch_norm(x, f"{name}_depthwise_bn", style.batch_norm)
    x = net.activation(x, f"{name}_depthwise_act", style.activation)
    if block.squeeze:
        x = squeeze_excite(net, x, name, block.squeeze, style)
    width = style.width(f"{name}_project_conv", block.outputs)
    x = conv_norm_act(net, x, f"{name}_project", Conv(width), style, act=False)
    if not block.has_skip:
        return x
    x = net.dropout(x, f"{name}_drop", block.drop, whole_sample=True)
    return net.add([x, shortcut], f"{name}_add")


def squeeze_excite(net: Vocabulary[Tensor], x: Tensor, name: str, squeeze: int, style: Style) -> Tensor:
    """Scales each channel by a gate computed from all channels' means (Hu et al. 2018)."""
    width = style.width(f"{name}_se_reduce", squeeze)
    gate = net.mean(x, f"{name}_se_mean")
    gate = net.conv(gate, f"{name}_se_reduce", Conv(width, bias=True))
    gate = net.activation(gate, f"{name}_se_act", style.activation)
    gate = net.conv(gate, f"{name}_se_expand", Conv(net.channels(x), bias=True))
    gate = net.activation(gate, f"{name}_se_gate", "sigmoid")
    return net.multiply(x, gate, f"{name}_se_scale")


def _positions(stages: list[Stage]) -> Iterator[tuple[Stage, int]]:
    for stage in stages:
        for repeat in range(stage.repeats):
            yield stage, repeat


def _block(network: NetworkSpec, stage: Stage, repeat: int, index: int, drop: float) -> Block:
    inputs = stage.inputs if repeat == 0 else stage.outputs
    squeezes = network.squeeze_excite and stage.squeeze > 0
    return Block(
        name=f"block{index}",
        stage=stage,
        inputs=inputs,
        outputs=stage.outputs,
        stride=stage.stride if repeat == 0 else 1,
        squeeze=max(1, int(inputs * stage.squeeze)) if squeezes else 0,
        drop=drop,
    )
