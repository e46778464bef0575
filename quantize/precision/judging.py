"""The user's metric on artifacts, the same that `effkeras eval` measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from effkeras.data.records import LabelledData
from effkeras.evaluate import evaluate, headline, headlines
from effkeras.litert.runner import LiteRTModel

Metrics = dict[str, float]


def worst_drop(wanted: Mapping[str, float], got: Mapping[str, float]) -> float:
    """The largest loss among metrics; infinite if one is not a number."""
    drops = [wanted[name] - got[name] for name in wanted]
    return math.inf if any(map(math.isnan, drops)) else max(drops)


@dataclass(frozen=True, eq=False, slots=True)
class MetricOf:
    """Measures artifacts on the first `limit` pictures of `data`."""

    data: LabelledData
    limit: int | None = None

    def __call__(self, flatbuffer: bytes) -> Metrics:
        """The metrics that the model is judged by, the higher the better; one for each of its heads."""
        runner = LiteRTModel.of_bytes(flatbuffer)
        measured = evaluate(runner, self.data, limit=self.limit, title="measuring")
        return {name: measured[name] for name in headlines(runner.spec)}

    def headline(self, flatbuffer: bytes) -> float:
        """The first of them."""
        return self(flatbuffer)[headline(LiteRTModel.of_bytes(flatbuffer).spec)]
