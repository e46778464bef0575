"""What a kernel's numbers show of earlier steps: its zeros, its clusters; and pruning masks. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantize.magnitude.patterns import Blocks, Groups
from quantize.specs import Scope

Array = np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Clusters:
    """A kernel as indices of a few values.

    `assignment` int32 has the kernel's shape, `centroids` (count,) are sorted and have the kernel's type.
    """

    assignment: Array
    centroids: Array

    @property
    def kernel(self) -> Array:
        """The kernel itself."""
        return self.centroids[self.assignment]


def zero_mask(kernel: Array) -> Array:
    """True where a weight is not zero: the mask that pruning left."""
    return kernel != 0


def clusters_of(kernel: Array) -> Clusters:
    """A kernel's different values, and which of them each weight is."""
    centroids, assignment = np.unique(kernel, return_inverse=True)
    return Clusters(assignment.reshape(kernel.shape).astype(np.int32), centroids)


def relative_change(before: Array, after: Array) -> float:
    """The norm of the difference as a share of the norm of `before`; 0 where that is 0."""
    norm = np.linalg.norm(before.astype(np.float64))
    change = np.linalg.norm(after.astype(np.float64) - before)
    return float(change / norm) if norm else 0.0


def pruning_masks(
    kernels: Sequence[Array], pattern: Groups | Blocks, sparsity: float, scope: Scope = "layer"
) -> list[Array]:
    """Masks that leave the largest weights; True where a weight stays.

    Args:
        kernels: the kernels that are pruned, (..., input channels, filters) each.
        pattern: what becomes zero together. n of m does without `sparsity`.
        sparsity: the share of weights (or blocks) that become zero.
        scope: "layer" finds a threshold for each kernel, "global" one for all; each keeps at least its
            largest weight.

    Returns:
        A mask for each kernel. As in tensorflow-model-optimization `round(size * (1 - sparsity))` weights
        stay, half rounded to even, and all that equal the smallest of them.
    """
    if isinstance(pattern, Groups):
        return [pattern.mask(kernel) for kernel in kernels]
    scores = [pattern.scores(kernel) for kernel in kernels]
    if scope == "layer":
        thresholds = [_threshold(score.ravel(), sparsity) for score in scores]
    else:
        common = _threshold(np.concatenate([score.ravel() for score in scores]), sparsity)
        thresholds = [min(common, score.max()) for score in scores]
    kept = (score >= threshold for score, threshold in zip(scores, thresholds, strict=True))
    return [pattern.spread(one, kernel.shape) for one, kernel in zip(kept, kernels, strict=True)]


def _threshold(scores: Array, sparsity: float) -> Array:
    """The smallest score that stays."""
    share = np.float32(1) - np.float32(sparsity)
    kept = int(np.clip(np.round(np.float32(scores.size) * share), 1, scores.size))
    place = scores.size - kept
    return np.partition(scores, place)[place]
