"""Networks of MBConv blocks: EfficientNet and its kin, MnasNet, MixNet, MobileNetV2 and V3."""

from __future__ import annotations

from effkeras.graph.mbconv import blocks_of, is_last_of_stride, mbconv
from effkeras.graph.vocabulary import Conv, Style, Tensor, Vocabulary, conv_norm_act
from effkeras.networks import BlockNetwork, DropBlockSpec
from effkeras.scaling import scale_head, scale_hidden, scale_stem


def style_of(network: BlockNetwork) -> Style:
    """What the network's layers have in common."""
    return Style(network.activation, network.batch_norm, network.squeeze, network.padding)


def features(net: Vocabulary[Tensor], x: Tensor, network: BlockNetwork) -> dict[int, Tensor]:
    """The last feature map of each level (level l has stride 2^l), from the normalised picture."""
    style = style_of(network)
    stem = Conv(scale_stem(network), kernel=3, stride=2, padding=style.padding)
    x = conv_norm_act(net, x, "stem", stem, style)
    maps: dict[int, Tensor] = {}
    level = 1
    blocks = blocks_of(network)
    last = level + sum(block.stride == 2 for block in blocks)
    for index, block in enumerate(blocks):
        level += block.stride == 2
        x = mbconv(net, x, block, style)
        keep = drop_block_keep(network.drop_block, last - level)
        x = net.drop_block(x, f"{block.name}_drop_block", keep, network.drop_block.size)
        if is_last_of_stride(blocks, index):
            maps[level] = x
    return maps


def drop_block_keep(spec: DropBlockSpec, below: int) -> float:
    """The share that maps `below` levels under the last keep.

    A level drops a quarter as much as the one above it, and only the last two drop at all: groups 3 and 4
    of the authors' ResNet (tensorflow/tpu).
    """
    return 1 - (1 - spec.keep) / 4**below if below < 2 else 1.0


def top(net: Vocabulary[Tensor], x: Tensor, network: BlockNetwork) -> Tensor:
    """(B, units) from the last map: a 1x1 convolution, the mean, dropout."""
    style = style_of(network)
    x = conv_norm_act(net, x, "head", Conv(scale_head(network)), style)
    x = net.mean(x, "head_mean")
    hidden = scale_hidden(network)
    if hidden:
        x = net.conv(x, "hidden_conv", Conv(hidden, bias=True))
        x = net.activation(x, "hidden_act", style.activation)
    x = net.flatten(x, "head_flatten")
    return net.dropout(x, "head_dropout", network.dropout, whole_sample=False)
