"""Whole models: a network with a classifier's last layers, or with a detector's BiFPN and heads.

The mask head is the reference code's `SegmentationHead`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from effkeras.definitions.definition import FpnSpec, ModelSpec, detector_parts
from effkeras.graph.bifpn import pyramid
from effkeras.graph.vocabulary import Conv, Tensor, Vocabulary
from effkeras.graph.widths import Widths
from effkeras.support.errors import EffkerasError

# A detector starts with a class probability of 0.01 at every anchor (focal loss paper, 4.1).
PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)
MASK_STRIDE = 4  # input pixels per mask pixel: level 3 has stride 8, and the last layer doubles its size
MASK_PREFIX = "segment_"  # of layer names in the mask head


def classifier(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> Tensor:
    """Logits (B, classes) from the normalised image; `[channels]` set the widths of layers."""
    wide = Widths(net, spec.channels)
    maps = spec.network.features(wide, wide.start(x))
    return wide.end(spec.network.logits(wide, maps[max(maps)], spec.classes), "logits")


def detector(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> dict[str, Tensor]:
    """The outputs of the definition's heads by name, from the normalised image.

    `class_logits` (B, N, classes) and `box_deltas` (B, N, 4) of all anchors; `mask_logits` (B, h, w, mask
    classes) of the pixels. `[channels]` set the widths of layers.
    """
    wide = Widths(net, spec.channels)
    heads = _heads(wide, wide.start(x), spec)
    return {name: wide.end(output, name) for name, output in heads.items()}


def _heads(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> dict[str, Tensor]:
    maps = pyramid(net, _levels(net, x, spec), detector_parts(spec).fpn)
    boxes = _boxes(net, maps, spec) if spec.detects else {}
    return boxes | ({"mask_logits": mask_logits(net, maps, spec)} if spec.segments else {})


def _boxes(net: Vocabulary[Tensor], maps: Sequence[Tensor], spec: ModelSpec) -> dict[str, Tensor]:
    parts = detector_parts(spec)
    per_location = parts.anchors.per_location
    classes = Conv(per_location * spec.classes, kernel=3, bias=True, bias_start=PRIOR_BIAS)
    boxes = Conv(per_location * 4, kernel=3, bias=True)
    repeats = parts.head.repeats
    class_maps = _head(net, maps, ("class", repeats), classes, parts.fpn)
    box_maps = _head(net, maps, ("box", repeats), boxes, parts.fpn)
    return {
        "class_logits": net.rows(class_maps, "class_logits", spec.classes),
        "box_deltas": net.rows(box_maps, "box_deltas", 4),
    }


def _levels(net: Vocabulary[Tensor], x: Tensor, spec: ModelSpec) -> dict[int, Tensor]:
    """The network's maps of levels 3 and above, checked for the sizes that the anchors expect."""
    low = detector_parts(spec).fpn.levels[0]
    maps = {level: one for level, one in spec.network.features(net, x).items() if level >= low}
    if not maps or sorted(maps) != list(range(low, low + len(maps))):
        raise EffkerasError(f"{spec.name}: the network has no map of stride 8; the pyramid starts from it")
    for level, one in maps.items():
        _check_size(net.size(one), level, spec)
    return maps


def _check_size(size: tuple[int, int], level: int, spec: ModelSpec) -> None:
    wanted = tuple(-(-side // 2**level) for side in spec.input.size)
    if size != wanted:
        raise EffkerasError(
            f"{spec.name}: the network's map of level {level} is {size[0]} x {size[1]} and a pyramid needs "
            f'{wanted[0]} x {wanted[1]}; tap another layer, pad it (padding = "same"), or take sides that '
            "are multiples of 32"
        )


def _head(
    net: Vocabulary[Tensor],
    maps: Sequence[Tensor],
    what: tuple[str, int],
    predictor: Conv,
    fpn: FpnSpec,
) -> list[Tensor]:
    name, repeats = what
    xs = list(maps)
    for repeat in range(repeats):
        shared = net.separable(f"{name}{repeat}_conv", Conv(fpn.channels, kernel=3, bias=True))
        xs = [
            _norm_act(net, shared(x), f"{name}{repeat}_p{fpn.levels[0] + position}", fpn)
            for position, x in enumerate(xs)
        ]
    predict = net.separable(f"{name}_predict", predictor)
    return [predict(x) for x in xs]


def _norm_act(net: Vocabulary[Tensor], x: Tensor, name: str, fpn: FpnSpec) -> Tensor:
    x = net.batch_norm(x, f"{name}_bn", fpn.batch_norm)
    return net.activation(x, f"{name}_act", fpn.activation)


def mask_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the mask: those of the input over 4, rounded up to an even number."""
    return 2 * -(-size[0] // (2 * MASK_STRIDE)), 2 * -(-size[1] // (2 * MASK_STRIDE))


def mask_logits(net: Vocabulary[Tensor], maps: Sequence[Tensor], spec: ModelSpec) -> Tensor:
    """Logits (B, h, w, mask classes) of the pixels; h and w are twice the lowest level's.

    From the highest level down, a transposed convolution doubles each map, which is then concatenated with
    the next finer one. Where the finer map has an odd side, the doubled map is cropped to it (the reference
    code needs sides that halve evenly at all levels, and fails at Lite0's 320 pixels).

    Args:
        net: the vocabulary that provides the operations.
        maps: the BiFPN's maps, lowest level first.
        spec: a definition with the head "segment".
    """
    fpn = detector_parts(spec).fpn
    *finer, x = maps
    for level, skip in zip(range(fpn.levels[1] - 1, fpn.levels[0] - 1, -1), reversed(finer), strict=True):
        name = f"{MASK_PREFIX}p{level}"
        x = net.transposed(x, f"{name}_conv", Conv(fpn.channels, kernel=3, stride=2))
        x = net.crop(x, f"{name}_crop", net.size(skip))
        x = net.batch_norm(x, f"{name}_bn", fpn.batch_norm)
        x = net.activation(x, f"{name}_act", fpn.activation)
        x = net.concat([x, skip], f"{name}_concat")
    return net.transposed(x, f"{MASK_PREFIX}predict", Conv(spec.mask_classes, kernel=3, stride=2, bias=True))
