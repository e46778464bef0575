"""Masks: from logits to the class of each pixel of an image, and mean intersection over union."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from effkeras.data.masks import IGNORED
from effkeras.data.preprocess import Placement
from effkeras.graph.heads import MASK_STRIDE

_BAND = 2**22  # values in memory at a time


def decode_mask(logits: np.ndarray, placement: Placement) -> np.ndarray:
    """The most likely class of each pixel: (h, w, C) logits to uint8 of the image's height and width.

    Logits are upsampled bilinearly, by pixel centres, before the argmax, so borders are finer than the mask's
    pixels. Logits of the padding are ignored.
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
    """The two mask rows (or columns) around each image row, and its distance from the first."""
    scale, offset, side = placement.scale[axis], placement.offset[axis], placement.size[axis]
    last = min(length, int(np.ceil(round(side * scale + offset, 3) / MASK_STRIDE))) - 1
    position = ((np.arange(side) + 0.5) * scale + offset) / MASK_STRIDE - 0.5
    position = np.clip(position, 0, last)
    first = np.floor(position).astype(np.int64)
    return first, np.minimum(first + 1, last), (position - first).astype(np.float32)


@dataclass(eq=False, slots=True)
class Confusion:
    """Pixel counts by true and predicted class, over any number of images."""

    classes: int
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes), np.int64)

    def add(self, truth: np.ndarray, found: np.ndarray) -> None:
        """Adds the pixels of two label maps of equal shape; pixels with the true value 255 are ignored."""
        known = truth != IGNORED
        pairs = truth[known].astype(np.int64) * self.classes + found[known]
        self.counts += np.bincount(pairs, minlength=self.classes**2).reshape(self.counts.shape)

    def ious(self) -> np.ndarray:
        """Intersection over union of each class; NaN for a class that is never true nor predicted."""
        both = np.diag(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - both
        return np.divide(both, union, out=np.full(self.classes, np.nan), where=union > 0)

    def metrics(self) -> dict[str, float]:
        """`mIoU`, the mean over all classes that occur, and `pixels`, the share of correct pixels."""
        total = self.counts.sum()
        if not total:
            return {"mIoU": 0.0, "pixels": 0.0}
        return {"mIoU": float(np.nanmean(self.ious())), "pixels": float(np.trace(self.counts) / total)}
