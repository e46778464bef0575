"""How a search came along: the best so far, and what random search is expected to have found by then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_so_far(rewards: Sequence[float]) -> np.ndarray:
    """The highest reward up to each trial."""
    return np.maximum.accumulate(np.asarray(rewards, float))


def expected_best(rewards: Sequence[float]) -> np.ndarray:
    """The mean highest reward of 1, 2, ... of these, drawn without putting back.

    Exact over all orders of a random search's trials, where its own course is but one of them
    (arXiv:1909.03004, which puts back).
    """
    ordered = np.sort(np.asarray(rewards, float))
    count = len(ordered)
    # Of all sets of n, the share whose best is the i-th smallest: C(i, n - 1) / C(count, n), step by step.
    best = np.empty(count)
    shares = np.full(count, 1 / count)
    places = np.arange(count)
    for drawn in range(1, count + 1):
        best[drawn - 1] = shares @ ordered
        if drawn < count:
            shares = shares * (places - drawn + 1) / drawn * (drawn + 1) / (count - drawn)
    return best
