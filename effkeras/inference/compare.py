"""The drop of a metric between two models on the same images, with a confidence interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effkeras.data.records import LabelledData
from effkeras.inference.evaluate import evaluate_in_detail
from effkeras.inference.predictor import Predictor
from effkeras.inference.task import TASKS, Outcomes
from effkeras.support.errors import EffkerasError
from effkeras.support.files import whole_file

RESAMPLES = 1000
LEVEL = 0.95
_METRICS = "metrics"


@dataclass(frozen=True, eq=False, slots=True)
class Measured:
    """The metrics of a model on some images, and per-image outcomes for comparison with another model.

    `outcomes` belong to the first task that has outcomes per image; None if no task has any.
    """

    metrics: dict[str, float]
    outcomes: Outcomes | None = None

    def save(self, file: Path) -> None:
        """Writes a .npz file; EffkerasError if it cannot be written."""
        kept = {f"{_METRICS}/{name}": np.array(value) for name, value in self.metrics.items()}
        if self.outcomes is not None:
            arrays = self.outcomes.arrays
            kept |= {f"{self.outcomes.metric}/{name}": array for name, array in arrays.items()}
        with whole_file(file) as aside:
            np.savez_compressed(aside, **kept)  # type: ignore[arg-type]  # numpy's own `allow_pickle`

    @classmethod
    def load(cls, file: Path) -> Measured:
        """Reads a file written by `save`; other files raise errors of `numpy.load`, or KeyError."""
        with file.open("rb") as content, np.load(content) as kept:
            arrays = {name: kept[name] for name in kept.files}
        metrics = {name: float(value) for name, value in _below(_METRICS, arrays).items()}
        outcomes = (
            task.outcomes(_below(task.metric, arrays))
            for task in TASKS.entries().values()
            if _below(task.metric, arrays)
        )
        return cls(metrics, next(outcomes, None))


@dataclass(frozen=True, slots=True)
class Drop:
    """The drop of a metric, and its confidence interval at `level`.

    `before_within` and `after_within` are the intervals of the two values themselves.
    """

    metric: str
    before: float
    after: float
    low: float
    high: float
    level: float = LEVEL
    before_within: tuple[float, float] = (math.nan, math.nan)
    after_within: tuple[float, float] = (math.nan, math.nan)

    @property
    def drop(self) -> float:
        """The drop; negative for a gain."""
        return self.before - self.after


def measure(
    predictor: Predictor, data: LabelledData, *, limit: int | None = None, title: str = "evaluating"
) -> Measured:
    """Runs a model on the first `limit` labelled images; see `effkeras.inference.evaluate.evaluate`."""
    evaluation = evaluate_in_detail(predictor, data, limit=limit, title=title)
    outcomes = (judge.outcomes() for judge in evaluation.judges.values())
    return Measured(evaluation.metrics, next((one for one in outcomes if one is not None), None))


def compare(before: Outcomes, after: Outcomes, *, resamples: int = RESAMPLES, seed: int = 0) -> Drop:
    """The drop from one model to another, with its paired bootstrap interval.

    The same images are drawn with replacement for both models (Efron & Tibshirani 1993, chapter 13).
    Raises EffkerasError if the outcomes belong to different images or metrics.
    """
    if (before.metric, before.images) != (after.metric, after.images):
        raise EffkerasError(
            "cannot compare two models that were measured on different images or by different metrics; "
            "measure both on the same images"
        )
    random = np.random.default_rng(seed)
    shares = np.full(before.images, 1 / before.images)
    values = np.array(
        [
            (before.weighted(weights), after.weighted(weights))
            for weights in random.multinomial(before.images, shares, size=resamples).astype(float)
        ]
    )
    (low, high), own, theirs = map(_interval, (values[:, 0] - values[:, 1], values[:, 0], values[:, 1]))
    return Drop(before.metric, before.value, after.value, low, high, LEVEL, own, theirs)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _below(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `name` and a slash; the prefix is removed."""
    start = f"{name}/"
    return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
