"""Rare classes: weights for the losses, or images drawn more often, that make up for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effkeras.data.records import ClassificationData, LabelledData

# Of n examples of a class, (1 - beta ** n) / (1 - beta) count. Cui et al. use 0.9 to 0.9999; this one bounds
# the ratio of two weights by 1,000.
_BETA = 0.999


def class_counts(data: LabelledData, classes: int) -> np.ndarray:
    """Images, or boxes that are no crowds, of each class: int64 (classes,)."""
    if isinstance(data, ClassificationData):
        found = [np.array([record.label for record in data.records], np.int64)]
    else:
        found = [record.classes[~record.crowd] for record in data.records]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *found]), minlength=classes)


def balanced_weights(counts: Sequence[int] | np.ndarray) -> tuple[float, ...]:
    """A factor for each class: the inverse of its effective number of examples (Cui et al. 2019).

    The mean over all examples is 1, so that the sum of a loss keeps its size beside other losses. A class
    without examples gets 1.

    Args:
        counts: the examples of each class, (classes,).
    """
    counts = np.asarray(counts, np.float64)
    seen = counts > 0
    effective = (1 - _BETA**counts) / (1 - _BETA)
    weights = np.divide(1.0, effective, out=np.ones_like(counts), where=seen)
    if seen.any():
        weights[seen] *= counts.sum() / (weights * counts).sum()
    return tuple(map(float, weights))


def repeat_factors(classes: Sequence[np.ndarray]) -> tuple[float, ...]:
    """How often to draw each image, relative to the others, so that rare classes are seen more (LVIS).

    A class in a share f of the images has the factor sqrt(t / f), an image the largest of its classes (Gupta
    et al. 2019). Their t of 0.001 is for 1,000 classes; here it is the largest f. An image without objects
    has 1.

    Args:
        classes: the class indices of each image's objects.
    """
    most = 1 + max((int(one.max()) for one in classes if len(one)), default=0)
    images = np.zeros(most)
    for one in classes:
        images[np.unique(one)] += 1
    factors = np.sqrt(images.max() / np.maximum(images, 1))
    return tuple(float(factors[one].max()) if len(one) else 1.0 for one in classes)
