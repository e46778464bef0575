"""From the logits of a mask to the class of each pixel of the picture."""

from __future__ import annotations

import numpy as np

from effkeras.graph.segmentation import STRIDE
from effkeras.preprocess import Placement

_BAND = 2**22  # values that are held at a time


def decode_mask(logits: np.ndarray, placement: Placement) -> np.ndarray:
    """The likeliest class of each pixel: (h, w, C) logits to uint8 of the picture's height and width.

    The logits are enlarged bilinearly, by pixel centres, before classes are compared: borders run finer
    than the mask's own pixels. What the network says of the padding is left aside.
    """
    tops, bottoms, down = _neighbours(placement, 0, logits.shape[0])
    lefts, rights, across = _neighbours(placement, 1, logits.shape[1])
    wide = logits[:, lefts] * (1 - across)[:, None] + logits[:, rights] * across[:, None]
    labels = np.empty(placement.size, np.uint8)
    rows = max(1, _BAND // wide[0].size)
    for start in range(0, len(tops), rows):
        band = slice(start, start + rows)
        low, high = wide[tops[band]], wide[bottoms[band]]
        labels[band] = (low + (high - low) * down[band, None, None]).argmax(axis=-1)
    return labels


def _neighbours(placement: Placement, axis: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row (or column) of the picture the two of the mask around it, and how far from the first."""
    scale, offset, side = placement.scale[axis], placement.offset[axis], placement.size[axis]
    last = min(length, int(np.ceil(round(side * scale + offset, 3) / STRIDE))) - 1
    position = ((np.arange(side) + 0.5) * scale + offset) / STRIDE - 0.5
    position = np.clip(position, 0, last)
    first = np.floor(position).astype(np.int64)
    return first, np.minimum(first + 1, last), (position - first).astype(np.float32)
