"""Evaluation by a short training of each candidate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import keras

from effkeras.data.classes import spec_for_data
from effkeras.definition import ModelSpec
from effkeras.evaluate import evaluate_batches, headlines
from effkeras.models import build_spec
from effkeras.predictor import Predictor
from effkeras.search.evaluation.costs import cost_of
from effkeras.search.evaluation.fitting import Course, Fitting, GraphPredictor
from effkeras.search.evaluation.pictures import Pictures
from effkeras.search.evaluation.protocol import Candidate, Outcome, Report
from effkeras.search.evaluation.settings import EvaluationSettings
from effkeras.search.genomes import Genome


class Definitions(Protocol):
    """What an evaluator needs of a space: the definition of each candidate."""

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition, of whatever classes and size the space says."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class ShortTraining:
    """Trains each candidate for a few epochs and measures it on the validation split after each.

    The accuracy is the best that was seen: top-1 of a classifier, AP of a detector, the mean over the heads
    of one that has several. The winner's definition is trained again, for as long as it deserves.
    """

    space: Definitions
    pictures: Pictures
    settings: EvaluationSettings

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """Trains one candidate; the same one again gives the same accuracy.

        Raises EffkerasError for a candidate that cannot be built or trained.
        """
        start = time.perf_counter()
        spec = self._definition(candidate)
        try:
            course = self._train(spec, candidate.seed, report)
        finally:
            keras.backend.clear_session()
        metrics = {"epochs": float(len(course)), "seconds": time.perf_counter() - start}
        return Outcome(max(course), {**metrics, "last_accuracy": course[-1]})

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """What a candidate costs, without training it; EffkerasError for one that cannot be costed."""
        return cost_of(self._definition(candidate), self.settings.costs, self.settings.artifact)

    def _definition(self, candidate: Candidate) -> ModelSpec:
        return spec_for_data(self.space.spec(candidate.genome), self.pictures.splits.train)

    def _train(self, spec: ModelSpec, seed: int, report: Report) -> list[float]:
        """The accuracy after each epoch."""
        keras.utils.set_random_seed(seed)
        model = build_spec(spec)
        course = Course(spec, self.settings.training(seed), self.settings.augment is not None)
        fitting = Fitting(model, course, self.pictures.training(spec))
        predictor = GraphPredictor(model, spec)
        found: list[float] = []
        for number in range(self.settings.epochs):
            fitting.epoch(number)
            found.append(accuracy(predictor, self.pictures))
            report(number + 1, found[-1])
            if self._is_over(found):
                break
        return found

    def _is_over(self, found: list[float]) -> bool:
        since_best = len(found) - 1 - found.index(max(found))
        return 0 < self.settings.patience <= since_best


def accuracy(predictor: Predictor, pictures: Pictures) -> float:
    """The metric that a model is judged by, 0..1, on the validation split; the mean where it has several."""
    spec = predictor.spec
    metrics = evaluate_batches(predictor, pictures.splits.validation, pictures.validation(spec))
    judged = [metrics[name] for name in headlines(spec)]
    return sum(judged) / len(judged)
