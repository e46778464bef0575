"""Pruning patterns and their masks: unstructured, n of every m weights, or whole blocks.

A kernel is a set of matrices, input channels x filters (its last two axes), one per window position. For
dense and convolution layers the masks equal those of tensorflow-model-optimization. Pure numpy.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from effkeras.support.errors import EffkerasError, did_you_mean
from quantize.specs import Scope

Pooling = Literal["average", "max"]
Array = np.ndarray

UNSTRUCTURED = "unstructured"


class Pattern(ABC):
    """A rule for the positions of zeros in a kernel."""

    @abstractmethod
    def unfit(self, shape: Sequence[int]) -> str:
        """Why a kernel of this shape cannot have the pattern; empty if it can."""

    @abstractmethod
    def follows(self, kernel: Array) -> bool:
        """Whether a kernel's zeros follow the pattern."""


@dataclass(frozen=True, slots=True)
class Groups(Pattern):
    """At most `kept` of every `size` neighbours along the input channels are nonzero, such as 2:4.

    An incomplete last group also keeps `kept`. The input channels are the second last axis; in a transposed
    convolution that axis holds the filters, in a depthwise one the channels.
    """

    kept: int
    size: int

    def unfit(self, shape: Sequence[int]) -> str:
        """Why a kernel of this shape cannot have the pattern; empty if it can."""
        if shape[-2] > self.kept:
            return ""
        return f"it has {shape[-2]} input channels, of which {self.kept}:{self.size} keeps all"

    def mask(self, kernel: Array) -> Array:
        """True where a weight stays: the largest of each group, the first among equals."""
        groups = self._grouped(np.abs(kernel))
        chosen = np.argsort(-groups, axis=-1, kind="stable")[..., : self.kept]
        mask = np.zeros(groups.shape, bool)
        np.put_along_axis(mask, chosen, True, axis=-1)
        channels = kernel.shape[-2]
        flat = mask.reshape(*mask.shape[:-2], -1)[..., :channels]
        return np.moveaxis(flat, -1, -2)

    def follows(self, kernel: Array) -> bool:
        """Whether a kernel's zeros follow the pattern."""
        return bool((np.count_nonzero(self._grouped(kernel), axis=-1) <= self.kept).all())

    def _grouped(self, kernel: Array) -> Array:
        """The kernel with its input channels in groups, zero-padded: (..., filters, groups, size)."""
        rows = np.moveaxis(kernel, -2, -1)
        margin = -rows.shape[-1] % self.size
        padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, margin)])
        return padded.reshape(*rows.shape[:-1], -1, self.size)


@dataclass(frozen=True, slots=True)
class Blocks(Pattern):
    """Whole blocks of `rows` input channels x `columns` filters are zero; 1 x 1 is unstructured.

    `pooling` ranks a block by the average or the largest magnitude.
    """

    rows: int = 1
    columns: int = 1
    pooling: Pooling = "average"

    def unfit(self, shape: Sequence[int]) -> str:
        """Why a kernel of this shape cannot have the pattern; empty if it can."""
        if self.rows <= shape[-2] and self.columns <= shape[-1]:
            return ""
        return f"the block {self.rows}x{self.columns} is larger than its kernel {shape[-2]}x{shape[-1]}"

    def scores(self, kernel: Array) -> Array:
        """The magnitude of each block: (..., rows of blocks, columns of blocks)."""
        return self._pooled(self._pooled(np.abs(kernel), self.rows, -2), self.columns, -1)

    def spread(self, kept: Array, shape: Sequence[int]) -> Array:
        """Expands a mask of blocks to a mask of weights."""
        rows = kept.repeat(self.rows, axis=-2)[..., : shape[-2], :]
        return rows.repeat(self.columns, axis=-1)[..., : shape[-1]]

    def follows(self, kernel: Array) -> bool:
        """Whether a kernel's zeros follow the pattern."""
        zero = whole = kernel == 0
        for size, axis in ((self.rows, -2), (self.columns, -1)):
            whole = np.logical_and.reduceat(whole, np.arange(0, kernel.shape[axis], size), axis=axis)
        return bool((self.spread(whole, kernel.shape) == zero).all())

    def _pooled(self, values: Array, size: int, axis: int) -> Array:
        """Pooling with stride `size` and padding SAME along one axis.

        If the blocks do not fill the axis, SAME centres its windows, but the mask's blocks start at the edge.
        tensorflow-model-optimization does the same.
        """
        if size == 1:
            return values
        length = values.shape[axis]
        margin = -length % size
        ends = [(0, 0)] * values.ndim
        ends[axis] = (margin // 2, margin - margin // 2)
        windows = np.moveaxis(np.pad(values, ends), axis, -1)
        windows = windows.reshape(*windows.shape[:-1], -1, size)
        if self.pooling == "max":
            return np.moveaxis(windows.max(axis=-1), -1, axis)
        counts = np.pad(np.ones(length, values.dtype), ends[axis]).reshape(-1, size).sum(axis=-1)
        return np.moveaxis(windows.sum(axis=-1) / counts, -1, axis)


def parse_pattern(text: str, pooling: Pooling = "average") -> Groups | Blocks:
    """Parses a pattern such as "unstructured", "2:4" or "1x4".

    Raises EffkerasError for any other text, and for numbers that keep all weights or none.
    """
    if text == UNSTRUCTURED:
        return Blocks()
    found = re.fullmatch(r"(\d{1,6})([:x])(\d{1,6})", text)
    if found is None:
        hint = did_you_mean(text, (UNSTRUCTURED, "2:4", "1x4"))
        raise EffkerasError(f"there is no pruning pattern {text!r} (n:m or ROWSxCOLUMNS); {hint}")
    first, second = int(found[1]), int(found[3])
    return _groups(text, first, second) if found[2] == ":" else _blocks(text, first, second, pooling)


def _groups(text: str, kept: int, size: int) -> Groups:
    if not 0 < kept < size:
        what = "all weights" if kept else "none"
        raise EffkerasError(f"the pattern {text!r} leaves {what} of every {size}; give n:m with 0 < n < m")
    return Groups(kept, size)


def _blocks(text: str, rows: int, columns: int, pooling: Pooling) -> Blocks:
    if not rows or not columns:
        raise EffkerasError(f"the pattern {text!r} names an empty block; give ROWSxCOLUMNS of at least 1x1")
    return Blocks(rows, columns, pooling)


def pruning_masks(
    kernels: Sequence[Array], pattern: Groups | Blocks, sparsity: float, scope: Scope = "layer"
) -> list[Array]:
    """Masks that keep the largest weights; True where a weight stays.

    Args:
        kernels: the kernels to prune, (..., input channels, filters) each.
        pattern: which weights become zero together. n:m ignores `sparsity`.
        sparsity: the share of weights (or blocks) that become zero.
        scope: "layer" finds a threshold for each kernel, "global" one for all; every kernel keeps at least
            its largest weight.

    Returns:
        A mask for each kernel. As in tensorflow-model-optimization, `round(size * (1 - sparsity))` weights
        stay (half to even), and also all that equal the smallest of them.
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
