"""How much one model loses against another on the same images, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from effkeras.data.classes import matched
from effkeras.data.records import DetectionData, LabelledData
from effkeras.detection.average_precision import Matches
from effkeras.inference.evaluate import evaluate_in_detail
from effkeras.inference.predictor import Predictor
from effkeras.support.errors import EffkerasError
from effkeras.support.files import whole_file

RESAMPLES = 1000
LEVEL = 0.95
_METRICS = "metrics"

# A model's metric when each image counts as often as the weights (images,) say.
WeightedMetric = Callable[[np.ndarray], float]


@dataclass(frozen=True, eq=False, slots=True)
class Outcomes:
    """What a model made of each of some images: its metric for any weighting of them.

    `arrays` are what `weighted` is computed from.
    """

    metric: str
    images: int
    weighted: WeightedMetric
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The metric, each image counted once."""
        return self.weighted(np.ones(self.images))


@dataclass(frozen=True, eq=False, slots=True)
class Measured:
    """The metrics of a model on some images, and the outcomes by which it is compared with another.

    `outcomes` are of AP or top-1; None for a model that only segments, as masks have no outcome per image.
    """

    metrics: dict[str, float]
    outcomes: Outcomes | None = None

    def save(self, file: Path) -> None:
        """Writes it to a .npz file. Raises EffkerasError when that is impossible."""
        kept = {f"{_METRICS}/{name}": np.array(value) for name, value in self.metrics.items()}
        if self.outcomes is not None:
            arrays = self.outcomes.arrays
            kept |= {f"{self.outcomes.metric}/{name}": array for name, array in arrays.items()}
        with whole_file(file) as aside:
            np.savez_compressed(aside, **kept)  # type: ignore[arg-type]  # numpy's own `allow_pickle`

    @classmethod
    def load(cls, file: Path) -> Measured:
        """Reads what `save` wrote; others raise errors of `numpy.load`, or KeyError."""
        with np.load(file) as kept:
            arrays = {name: kept[name] for name in kept.files}
        metrics = {name: float(value) for name, value in _below(_METRICS, arrays).items()}
        found = (make(_below(metric, arrays)) for metric, make in _OUTCOMES.items() if _below(metric, arrays))
        return cls(metrics, next(found, None))


@dataclass(frozen=True, slots=True)
class Drop:
    """What is lost of a metric, and the interval that holds it with a probability of `level`."""

    metric: str
    before: float
    after: float
    low: float
    high: float
    level: float = LEVEL

    @property
    def drop(self) -> float:
        """What is lost; negative when it is a gain."""
        return self.before - self.after


def measure(
    predictor: Predictor, data: LabelledData, *, limit: int | None = None, title: str = "evaluating"
) -> Measured:
    """Runs a model on the first `limit` labelled images; see `effkeras.inference.evaluate.evaluate`."""
    data = matched(data, predictor.spec)
    found = evaluate_in_detail(predictor, data, limit=limit, title=title)
    if found.ranks is not None:
        return Measured(found.metrics, _of_right({"right": found.ranks.top(1)}))
    if found.found is None or not isinstance(data, DetectionData):
        return Measured(found.metrics)
    matches = Matches.of(data, found.found)
    return Measured(found.metrics, _of_matches(matches.to_arrays()))


def compare(before: Outcomes, after: Outcomes, *, resamples: int = RESAMPLES, seed: int = 0) -> Drop:
    """The drop from one model to another, with its paired bootstrap interval.

    Images are drawn with replacement, the same for both models (Efron & Tibshirani 1993, chapter 13).
    Raises EffkerasError when the outcomes are not of the same images.
    """
    if (before.metric, before.images) != (after.metric, after.images):
        raise EffkerasError("only outcomes on the same images can be compared")
    random = np.random.default_rng(seed)
    shares = np.full(before.images, 1 / before.images)
    drops = [
        before.weighted(weights) - after.weighted(weights)
        for weights in random.multinomial(before.images, shares, size=resamples).astype(float)
    ]
    low, high = np.quantile(drops, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Drop(before.metric, before.value, after.value, float(low), float(high))


def _of_right(arrays: Mapping[str, np.ndarray]) -> Outcomes:
    right = arrays["right"]
    return Outcomes("top1", len(right), lambda weights: float(right @ weights / weights.sum()), arrays)


def _of_matches(arrays: Mapping[str, np.ndarray]) -> Outcomes:
    matches = Matches.from_arrays(arrays)
    return Outcomes("AP", matches.images, matches.average_precision, arrays)


_OUTCOMES = {"AP": _of_matches, "top1": _of_right}


def _below(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `name` and a slash, without these."""
    start = f"{name}/"
    return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
