"""Evaluation without training: a proxy in the place of the accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras

from effkeras.data.classes import spec_for_data
from effkeras.definition import ModelSpec
from effkeras.search.evaluation.costs import cost_of
from effkeras.search.evaluation.pictures import Pictures
from effkeras.search.evaluation.protocol import Candidate, Outcome, Report
from effkeras.search.evaluation.proxies import as_accuracy, probe_of, proxies_of
from effkeras.search.evaluation.settings import PROXY, EvaluationSettings
from effkeras.search.evaluation.training import Definitions


@dataclass(frozen=True, eq=False, slots=True)
class Probing:
    """Computes all proxies of a candidate; the one that the settings name stands in for its accuracy.

    It is squeezed into 0..1 without changing any order; the metrics hold the figures themselves.
    """

    space: Definitions
    pictures: Pictures
    settings: EvaluationSettings

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """Looks at one candidate. Raises EffkerasError for one that cannot be built."""
        spec = self._definition(candidate)
        probe = probe_of(spec, self.pictures.training(spec), self.settings.batch)
        try:
            found = proxies_of(spec, probe, candidate.seed)
        finally:
            keras.backend.clear_session()
        name = self.settings.kind.removeprefix(PROXY)
        accuracy = as_accuracy(name, found[name])
        report(1, accuracy)
        return Outcome(accuracy, found)

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """What a candidate costs."""
        return cost_of(self._definition(candidate), self.settings.costs, self.settings.artifact)

    def _definition(self, candidate: Candidate) -> ModelSpec:
        return spec_for_data(self.space.spec(candidate.genome), self.pictures.splits.train)
