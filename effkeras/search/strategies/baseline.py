"""What a reward is measured against: how good the latest ones were."""

from __future__ import annotations

import math


class Baseline:
    """Moving averages of the reward and of its squared deviation, without bias at the start.

    Each average keeps `keep` of itself (NASNet and TuNAS: 0.95); both are divided by their weights, as in
    Adam, so that they are plain means at first.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._weight = self._sum = self._squares = 0.0
        self.worst: float | None = None

    def advantage(self, reward: float) -> float:
        """How many standard deviations a reward is above those before; 0 for the first. Takes it in."""
        deviation = reward - self._sum / self._weight if self._weight else 0.0
        spread = math.sqrt(self._squares / self._weight) if self._weight else 0.0
        self._weight = self._mean(self._weight, 1.0)
        self._sum = self._mean(self._sum, reward)
        self._squares = self._mean(self._squares, deviation**2)
        self.worst = reward if self.worst is None else min(self.worst, reward)
        return deviation / spread if spread else math.copysign(1.0, deviation) if deviation else 0.0

    def _mean(self, old: float, new: float) -> float:
        return self._keep * old + (1 - self._keep) * new
