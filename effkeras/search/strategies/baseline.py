"""What a reward is measured against: how good the latest ones were."""

from __future__ import annotations

import math

import numpy as np

# Advantages are held within these bounds, in standard deviations: once a policy is sure its rewards hardly
# differ, and a single other one would undo everything.
_MOST = 3.0
# The advantage of a candidate that failed: clearly worse than usual, whatever rewards are like.
FAILED = -2.0


class Baseline:
    """Moving averages of the reward and of its squared deviation, without bias at the start.

    Each average keeps `keep` of itself; both are divided by their weights, as in Adam, so that they are
    plain means at first.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._weight = self._sum = self._squares = 0.0

    def advantage(self, reward: float) -> float:
        """How many standard deviations a reward is above those before; 0 for the first. Takes it in."""
        deviation = reward - self._sum / self._weight if self._weight else 0.0
        spread = math.sqrt(self._squares / self._weight) if self._weight else 0.0
        self._weight = self._mean(self._weight, 1.0)
        self._sum = self._mean(self._sum, reward)
        self._squares = self._mean(self._squares, deviation**2)
        if not spread:  # nothing is known of it yet
            return float(np.sign(deviation))
        return min(_MOST, max(-_MOST, deviation / spread))

    def _mean(self, old: float, new: float) -> float:
        return self._keep * old + (1 - self._keep) * new
