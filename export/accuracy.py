"""What an artifact loses of the metrics that its model is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The same metrics for the model and for the artifact; `metric` counts most, `others` count too.

    `measured_on` is a digest of what the model's depend on. `interval` holds the drop of `metric` with a
    probability of `effkeras.compare.LEVEL`; None where there is none, as for masks.
    """

    metric: str
    split: str
    pictures: int
    model: Metrics
    artifact: Metrics
    others: tuple[str, ...] = ()
    measured_on: str = ""
    interval: tuple[float, float] | None = None

    @property
    def counting(self) -> dict[str, float]:
        """The model's values of the metrics that count."""
        return {name: self.model[name] for name in (self.metric, *self.others)}

    @property
    def drop(self) -> float:
        """What the artifact loses of the metric; negative when it gains."""
        return self.drop_of(self.metric)

    @property
    def worst_drop(self) -> float:
        """The largest drop among the metrics that count; NaN if one of them is."""
        drops = [self.drop_of(name) for name in (self.metric, *self.others)]
        return max(drops, key=lambda drop: (math.isnan(drop), drop))

    def drop_of(self, metric: str) -> float:
        """What the artifact loses of one metric."""
        return self.model[metric] - self.artifact[metric]
