"""The head that gives every pixel a class (EfficientDet reference code, `SegmentationHead`)."""

from __future__ import annotations

from collections.abc import Sequence

from effkeras.definition import ModelSpec, detector_parts
from effkeras.graph.vocabulary import Conv, Tensor, Vocabulary

STRIDE = 4  # input pixels per mask pixel: level 3 has stride 8, and the last layer doubles its size
PREFIX = "segment_"


def mask_logits(net: Vocabulary[Tensor], maps: Sequence[Tensor], spec: ModelSpec) -> Tensor:
    """Logits (B, h, w, mask classes) of the pixels, h and w twice the lowest level's.

    From the top of the pyramid down, each map is doubled by a transposed convolution and put beside the
    next finer one. Where that one's side is odd, the doubled map is cut to it (the reference code asks for
    sides that halve evenly all the way up, and fails at Lite0's 320 pixels).

    Args:
        net: what the operations mean.
        maps: the pyramid's maps, lowest level first.
        spec: a definition with the head "segment".
    """
    fpn = detector_parts(spec).fpn
    *finer, x = maps
    for level, skip in zip(range(fpn.levels[1] - 1, fpn.levels[0] - 1, -1), reversed(finer), strict=True):
        name = f"{PREFIX}p{level}"
        x = net.transposed(x, f"{name}_conv", Conv(fpn.channels, kernel=3, stride=2))
        x = net.crop(x, f"{name}_crop", net.size(skip))
        x = net.batch_norm(x, f"{name}_bn", fpn.batch_norm)
        x = net.activation(x, f"{name}_act", fpn.activation)
        x = net.concat([x, skip], f"{name}_concat")
    return net.transposed(x, f"{PREFIX}predict", Conv(spec.mask_classes, kernel=3, stride=2, bias=True))


def mask_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the mask: those of the input over 4, rounded up to an even number."""
    return 2 * -(-size[0] // (2 * STRIDE)), 2 * -(-size[1] // (2 * STRIDE))
