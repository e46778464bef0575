"""Mean intersection over union, the metric of masks (PASCAL VOC; equals `keras.metrics.MeanIoU`)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from effkeras.data.masks import IGNORED


@dataclass(eq=False, slots=True)
class Confusion:
    """Counts of pixels by true and by predicted class, over any number of pictures."""

    classes: int
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes), np.int64)

    def add(self, truth: np.ndarray, found: np.ndarray) -> None:
        """Counts the pixels of two label maps of one shape; those whose truth is 255 are left out."""
        known = truth != IGNORED
        pairs = truth[known].astype(np.int64) * self.classes + found[known]
        self.counts += np.bincount(pairs, minlength=self.classes**2).reshape(self.counts.shape)

    def ious(self) -> np.ndarray:
        """Intersection over union of each class; NaN for one that is neither there nor predicted."""
        both = np.diag(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - both
        return np.divide(both, union, out=np.full(self.classes, np.nan), where=union > 0)

    def metrics(self) -> dict[str, float]:
        """`mIoU`, the mean over all classes that occur, and `pixels`, the share with the right class."""
        total = self.counts.sum()
        if not total:
            return {"mIoU": 0.0, "pixels": 0.0}
        return {"mIoU": float(np.nanmean(self.ious())), "pixels": float(np.trace(self.counts) / total)}
