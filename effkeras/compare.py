"""How much one model loses against another on the same pictures, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from effkeras.data.classes import matched
from effkeras.data.records import DetectionData, LabelledData
from effkeras.detection.average_precision import Matches
from effkeras.errors import EffkerasError
from effkeras.evaluate import class_ranks, found_boxes
from effkeras.predictor import Predictor

RESAMPLES = 1000
LEVEL = 0.95

# A model's metric when each picture counts as often as the weights (pictures,) say.
WeightedMetric = Callable[[np.ndarray], float]


@dataclass(frozen=True, eq=False, slots=True)
class Outcomes:
    """What a model made of each of some pictures: its metric for any weighting of them."""

    metric: str
    pictures: int
    weighted: WeightedMetric

    @property
    def value(self) -> float:
        """The metric, each picture counted once."""
        return self.weighted(np.ones(self.pictures))


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


def outcomes(predictor: Predictor, data: LabelledData, *, title: str = "evaluating") -> Outcomes:
    """Runs a model on labelled pictures: a detector's AP, or a classifier's top-1.

    Raises EffkerasError when the model and the data do not fit, or too many pictures cannot be read.
    """
    spec = predictor.spec
    if isinstance(data, DetectionData) and not spec.detects:
        raise EffkerasError(f"{spec.name} finds no boxes in {data.root}; comparisons are of AP or top-1")
    data = matched(data, spec)
    if isinstance(data, DetectionData):
        found = found_boxes(predictor, data, title=title)
        matches = Matches.of(data, found)
        return Outcomes("AP", matches.pictures, matches.average_precision)
    right = class_ranks(predictor, data, title=title).top(1)
    return Outcomes("top1", len(right), lambda weights: float(right @ weights / weights.sum()))


def compare(before: Outcomes, after: Outcomes, *, resamples: int = RESAMPLES, seed: int = 0) -> Drop:
    """The drop from one model to another, with its paired bootstrap interval.

    Pictures are drawn with replacement, the same for both models (Efron & Tibshirani 1993, chapter 13).
    Raises EffkerasError when the outcomes are not of the same pictures.
    """
    if (before.metric, before.pictures) != (after.metric, after.pictures):
        raise EffkerasError("only outcomes on the same pictures can be compared")
    random = np.random.default_rng(seed)
    shares = np.full(before.pictures, 1 / before.pictures)
    drops = [
        before.weighted(weights) - after.weighted(weights)
        for weights in random.multinomial(before.pictures, shares, size=resamples).astype(float)
    ]
    low, high = np.quantile(drops, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Drop(before.metric, before.value, after.value, float(low), float(high))
