"""EfficientNet: stem, MBConv stages, and the classifier's head."""

from __future__ import annotations

from effkeras.definition import ModelSpec
from effkeras.graph.mbconv import blocks_of, is_last_of_stride, mbconv
from effkeras.graph.vocabulary import Conv, Style, Tensor, Vocabulary, conv_norm_act
from effkeras.scaling import scale_head, scale_stem


def backbone_style(spec: ModelSpec) -> Style:
    """The style of the layers of the network part."""
    return Style(spec.network.activation, spec.network.batch_norm, spec.channels)


def features(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> dict[int, Tensor]:
    """The last feature map of each level: level l has stride 2^l.

    Args:
        net: what the operations mean.
        x: the normalised picture, (B, H, W, 3).
        spec: the model whose network is built.

    Returns:
        Maps of levels 1 to 5, those that the network reaches.
    """
    style = backbone_style(spec)
    width = style.width("stem_conv", scale_stem(spec.network))
    x = conv_norm_act(net, x, "stem", Conv(width, kernel=3, stride=2), style)
    maps: dict[int, Tensor] = {}
    level = 1
    blocks = blocks_of(spec.network)
    for index, block in enumerate(blocks):
        level += block.stride == 2
        x = mbconv(net, x, block, style)
        if is_last_of_stride(blocks, index):
            maps[level] = x
    return maps


def classifier(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> Tensor:
    """Logits (B, classes) from the normalised picture."""
    style = backbone_style(spec)
    maps = features(net, x, spec)
    x = maps[max(maps)]
    width = style.width("head_conv", scale_head(spec.network))
    x = conv_norm_act(net, x, "head", Conv(width), style)
    x = net.flatten(net.mean(x, "head_mean"), "head_flatten")
    x = net.dropout(x, "head_dropout", spec.network.dropout, whole_sample=False)
    return net.dense(x, "logits", spec.classes)
