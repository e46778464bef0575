"""The kind "blocks": MBConv networks such as EfficientNet, MnasNet, MixNet, MobileNetV2 and V3."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, cast

from effkeras.definitions.blocks import Stage, decode, encode, with_width
from effkeras.definitions.networks import (
    BATCH_NORM,
    LARGEST,
    NETWORKS,
    Activation,
    BatchNormSpec,
    Conventions,
    DropBlockSpec,
    Gate,
    Network,
    SqueezeSpec,
)
from effkeras.definitions.scaling import round_filters, round_repeats, round_to
from effkeras.graph.mbconv import Block, is_last_of_stride, mbconv
from effkeras.graph.vocabulary import Conv, Style, Tensor, Vocabulary, conv_norm_act


@NETWORKS.register("blocks")
@dataclass(frozen=True, slots=True)
class BlockNetwork(Network):
    """A network of MBConv blocks: block strings and the factors that scale them.

    `fixed_ends` (EfficientNet-Lite) does not scale stem, head and the repeats of the first and last stage;
    `fixed_stem` does not scale the stem's width; `head_scaling` says when the head's width is scaled (`up`:
    only by factors above 1). `hidden` is the width of a second, dense layer in the head (MobileNetV3).
    Expanded widths are multiples of `expand_divisor`. `padding` "symmetric" is PyTorch's padding of strided
    convolutions, for weights from PyTorch.
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
    drop_block: DropBlockSpec = field(default_factory=DropBlockSpec)
    batch_norm: BatchNormSpec = field(default_factory=BatchNormSpec)

    @property
    def style(self) -> Style:
        """Settings that the network's layers share."""
        return Style(self.activation, self.batch_norm, self.squeeze, self.padding)

    def checks(self) -> dict[str, bool]:
        """Requirements on the table's values, and whether each holds."""
        return {
            f"width must be above 0 and at most {LARGEST}, not {self.width:g}": 0 < self.width <= LARGEST,
            f"depth must be above 0 and at most {LARGEST}, not {self.depth:g}": 0 < self.depth <= LARGEST,
            "dropout and survival must lie between 0 and 1": (
                0 <= self.dropout < 1 and 0 <= self.survival <= 1
            ),
            "drop_block.keep must be above 0 and at most 1": 0 < self.drop_block.keep <= 1,
            "drop_block.size must be above 0": self.drop_block.size > 0,
            "blocks must name at least one stage": len(self.blocks) > 0,
            "stem and head must be above 0": min(self.stem, self.head) > 0,
            "hidden must not be negative": self.hidden >= 0,
            "divisors must be above 0": min(self.expand_divisor, self.squeeze.divisor) > 0,
            "round_limit must lie between 0 and 1": 0 <= self.round_limit <= 1,
            BATCH_NORM: self.batch_norm.is_valid,
        }

    def features(self, net: Vocabulary[Tensor], x: Tensor) -> dict[int, Tensor]:
        """The last feature map of each level (level l has stride 2^l)."""
        x = self.stem_features(net, x)
        maps: dict[int, Tensor] = {}
        level = 1
        blocks = blocks_of(self)
        last = level + sum(block.stride == 2 for block in blocks)
        for index, block in enumerate(blocks):
            level += block.stride == 2
            x = mbconv(net, x, block, self.style)
            keep = _drop_block_keep(self.drop_block, last - level)
            x = net.drop_block(x, f"{block.name}_drop_block", keep, self.drop_block.size)
            if is_last_of_stride(blocks, index):
                maps[level] = x
        return maps

    def stem_features(self, net: Vocabulary[Tensor], x: Tensor) -> Tensor:
        """The stem's map with stride 2, from the normalised image."""
        stem = Conv(scale_stem(self), kernel=3, stride=2, padding=self.padding)
        return conv_norm_act(net, x, "stem", stem, self.style)

    def logits(self, net: Vocabulary[Tensor], x: Tensor, classes: int) -> Tensor:
        """Logits (B, classes) from the last map: a 1x1 convolution, the mean, dropout, a dense layer."""
        x = conv_norm_act(net, x, "head", Conv(scale_head(self)), self.style)
        x = net.mean(x, "head_mean")
        hidden = scale_hidden(self)
        if hidden:
            x = net.conv(x, "hidden_conv", Conv(hidden, bias=True))
            x = net.activation(x, "hidden_act", self.activation)
        x = net.flatten(x, "head_flatten")
        x = net.dropout(x, "head_dropout", self.dropout, whole_sample=False)
        return net.dense(x, "logits", classes)

    def scaled(self, width: float, depth: float) -> BlockNetwork:
        """The network with its factors multiplied."""
        return dataclasses.replace(self, width=self.width * width, depth=self.depth * depth)

    def as_built(self) -> BlockNetwork:
        """The same network with its width and depth factors already applied."""
        stages = scale_stages(self, [decode(text) for text in self.blocks])
        if not self.squeeze_excite:
            stages = [dataclasses.replace(stage, squeeze=0.0) for stage in stages]
        return dataclasses.replace(
            self.with_ends(self.width),
            blocks=tuple(map(encode, stages)),
            width=1.0,
            depth=1.0,
            squeeze_excite=True,
        )

    def with_ends(self, width: float) -> BlockNetwork:
        """The network with stem and head `width` times as wide, where the family scales them."""
        scaled = dataclasses.replace(self, width=width)
        stem, head, hidden = scale_stem(scaled), scale_head(scaled), scale_hidden(scaled)
        return dataclasses.replace(self, stem=stem, head=head, hidden=hidden)

    def with_activations(self, change: Callable[[Activation], Activation]) -> BlockNetwork:
        """The network and its blocks with each activation replaced by `change(activation)`."""
        blocks = tuple(_with_activation(text, change) for text in self.blocks)
        return dataclasses.replace(self, blocks=blocks, activation=change(self.activation))

    def with_gate(self, gate: Gate | None) -> BlockNetwork:
        """The network with another squeeze-and-excitation gate; None removes squeeze-and-excitation."""
        if gate is None:
            return dataclasses.replace(self, squeeze_excite=False)
        return dataclasses.replace(self, squeeze=dataclasses.replace(self.squeeze, gate=gate))

    def conventions(self) -> Conventions:
        """Padding and epsilon, in which published weights of these networks differ."""
        return Conventions(self.padding, self.batch_norm.epsilon)

    def with_conventions(self, wanted: Conventions) -> BlockNetwork:
        """The network with other padding and epsilon."""
        norm = BatchNormSpec(self.batch_norm.momentum, wanted.epsilon or self.batch_norm.epsilon)
        return dataclasses.replace(self, padding=wanted.padding or self.padding, batch_norm=norm)

    def block_strings(self) -> dict[str, str]:
        """The block string of each block as built, by the block's name."""
        return {block.name: self.block_string(block) for block in blocks_of(self)}

    def block_string(self, block: Block) -> str:
        """The block string of one of the network's blocks as built; equal strings mean equal blocks.

        It always names the activation, its ratios are those after rounding, and it has `noskip` only where a
        shortcut would be possible.
        """
        stage, expands = block.stage, block.stage.expand != 1
        ratio = block.expanded / block.inputs if expands else 1.0
        squeezed = block.expanded if expands and self.squeeze.of == "expanded" else block.inputs
        alone = dataclasses.replace(
            stage,
            repeats=1,
            inputs=block.inputs,
            outputs=block.outputs,
            stride=block.stride,
            expand=stage.expand if ratio == 1 else ratio,  # keep an expansion to as many channels
            squeeze=block.squeeze / squeezed,
            skip=block.has_skip or block.stride != 1 or block.inputs != block.outputs,
            expand_groups=stage.expand_groups if expands and not stage.fused else 1,
            project_groups=stage.project_groups if expands or not stage.fused else 1,
            activation=stage.activation or self.activation,
        )
        return encode(alone)

    def description(self) -> list[tuple[str, str]]:
        """Rows of `effkeras info`."""
        blocks = blocks_of(self)
        return [
            ("blocks", str(len(blocks))),
            ("activation", self.activation),
            ("squeeze-and-excitation", "yes" if any(block.squeeze for block in blocks) else "no"),
        ]

    def scale_columns(self) -> tuple[str, str]:
        """Depth and width in `effkeras scale`: the factors."""
        return f"{self.depth:.2f}", f"{self.width:.2f}"


def blocks_of(network: BlockNetwork) -> list[Block]:
    """All blocks in order, each with its stochastic depth: linear in the position, 0 at the first."""
    stages = scale_stages(network, [decode(text) for text in network.blocks])
    total = sum(stage.repeats for stage in stages)
    drop = 1.0 - network.survival
    blocks: list[Block] = []
    for index, (stage, repeat) in enumerate(_positions(stages)):
        inputs = blocks[-1].outputs if blocks else scale_stem(network)
        blocks.append(_block(network, stage, (index, repeat, inputs), drop * index / total))
    return blocks


def _positions(stages: list[Stage]) -> Iterator[tuple[Stage, int]]:
    for stage in stages:
        for repeat in range(stage.repeats):
            yield stage, repeat


def _block(network: BlockNetwork, stage: Stage, place: tuple[int, int, int], drop: float) -> Block:
    index, repeat, inputs = place
    # The string's channels, not the actual ones: EfficientNet-EdgeTPU's first block expands 24 of 32.
    nominal = stage.inputs if repeat == 0 else stage.outputs
    exact = nominal * stage.expand
    divisor = network.expand_divisor
    expanded = int(exact) if divisor == 1 else round_to(exact, divisor, network.round_limit)
    squeezed = {"input": nominal, "expanded": expanded if stage.expand != 1 else inputs}[network.squeeze.of]
    return Block(
        name=f"block{index}",
        stage=stage,
        inputs=inputs,
        expanded=expanded,
        outputs=stage.outputs,
        stride=stage.stride if repeat == 0 else 1,
        squeeze=_squeeze(network, squeezed * stage.squeeze),
        drop=drop,
    )


def _squeeze(network: BlockNetwork, exact: float) -> int:
    if not network.squeeze_excite or exact == 0:
        return 0
    divisor = network.squeeze.divisor
    return max(1, int(exact)) if divisor == 1 else round_to(exact, divisor, network.round_limit)


def scale_stages(network: BlockNetwork, stages: list[Stage]) -> list[Stage]:
    """All stages at the network's width and depth; `fixed_ends` keeps the repeats of first and last."""
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
    """Units of the head's second layer, 0 for none; scaled only by factors above 1 (MobileNetV3)."""
    return _filters(network, network.hidden) if network.hidden and network.width > 1 else network.hidden


def _filters(network: BlockNetwork, filters: int) -> int:
    return round_filters(filters, network.width, network.round_limit)


def _with_activation(text: str, change: Callable[[Activation], Activation]) -> str:
    """A block string with its activation changed, if it sets one."""
    stage = decode(text)
    if not stage.activation:
        return text
    new = change(cast(Activation, stage.activation))  # the grammar allows no other
    return text if new == stage.activation else encode(dataclasses.replace(stage, activation=new))


def _drop_block_keep(spec: DropBlockSpec, below: int) -> float:
    """The share of values kept in maps `below` levels before the last.

    A level drops a quarter as much as the next one, and only the last two levels drop: groups 3 and 4 of the
    authors' ResNet (tensorflow/tpu).
    """
    return 1 - (1 - spec.keep) / 4**below if below < 2 else 1.0
