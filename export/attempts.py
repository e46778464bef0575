"""Artifacts that are tried one after the other while they lose too much, and what is said of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.compare import Measured, compare, measure
from effkeras.console import note
from effkeras.evaluate import headlines
from effkeras.litert.runner import LiteRTModel
from effkeras.models import spec_of
from export.accuracy import Accuracy
from export.consumers.finishing import Finish
from export.own_metrics import OwnMetrics, own_metrics
from export.sets import Sets
from quantize.checks.acceptance import Judged, beyond_budget, ruined
from quantize.post_training.quantization import FloatParts, PtqOptions, Quantized, quantize_parts
from quantize.precision.judging import worst_drop
from quantize.precision.mixed import Mixed, MixedOptions, MixedSets, mixed_parts

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData

MORE_SAMPLES = 4
TUNED_ON = 500


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be lost, measured on the first `limit` pictures.

    `work` keeps what a search has found, `measured` what a run's model itself reaches.
    """

    max_drop: float | None
    limit: int | None
    work: Path
    measured: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Attempt:
    """One artifact that was tried; `what` says how it was made.

    `parts` is the float conversion that it comes from, `quantized` the network, `artifact` the file for the
    consumer. `accuracy` is that on the split that decides, from what was `measured` there; `ruined` says so
    when most of the metric is lost. `problems` are reasons why the consumer cannot run it; nothing is
    measured then.
    """

    parts: FloatParts
    quantized: Quantized
    artifact: bytes
    samples: int
    accuracy: Accuracy | None
    what: str
    problems: tuple[str, ...] = ()
    measured: Measured | None = None
    ruined: str = ""

    @property
    def drop(self) -> float:
        """The worst drop; infinite if it is not a number or the consumer cannot run it, 0 if not measured."""
        drop = 0.0 if self.accuracy is None else self.accuracy.worst_drop
        return math.inf if self.problems or math.isnan(drop) else drop

    def loses_more(self, max_drop: float | None) -> bool:
        """Whether the drop is beyond a budget."""
        return self.accuracy is not None and beyond_budget(self.accuracy.split, self.drop, max_drop) != ""


def remedies(
    attempts: Sequence[Attempt], max_drop: float | None, ptq: PtqOptions, sets: Sets
) -> tuple[str, ...]:
    """What was tried against too large a drop, in order, and what is left to try."""
    if not attempts[0].loses_more(max_drop):
        return ()
    lines = [f"{one.what}: drop {one.drop:.4f}" for one in attempts]
    if sets.calibration is not None and not _has_more(ptq, sets):
        lines.insert(1, f"more calibration pictures: all {len(sets.calibration.records)} are used already")
    if all(one.loses_more(max_drop) for one in attempts):
        lines.append(_what_is_left(ptq))
    return tuple(lines)


@dataclass(frozen=True, eq=False)
class Trial:
    """What all attempts have in common.

    `original` is the model that they are compared with, `model` what the steps of the recipe made of it (the
    same if there are none), `parts` the conversion of that. What decides is measured on the sets' validation.
    """

    original: keras.Model
    model: keras.Model
    parts: FloatParts
    budget: Budget
    sets: Sets
    finish: Finish

    def attempts(self, ptq: PtqOptions) -> Iterator[Attempt]:
        """Artifacts in the order they are tried, until one is good enough or the consumer cannot run any."""
        budget = self.budget
        attempt = self._plain(ptq)
        yield attempt
        if attempt.loses_more(budget.max_drop) and _has_more(ptq, self.sets):
            note(f"the metric drops by more than {budget.max_drop}: trying more calibration pictures")
            ptq = replace(ptq, samples=ptq.samples * MORE_SAMPLES)
            attempt = self._plain(ptq)
            yield attempt
        if attempt.loses_more(budget.max_drop) and self._can_mix(ptq):
            left = self._left()
            if left < 0:
                note(f"the steps before lose too much already: no choice of layers keeps {budget.max_drop}")
                return
            note(f"the metric drops by more than {budget.max_drop}: trying more bits for the worst layers")
            yield self._mixed(ptq, left)

    def reported(self, attempt: Attempt) -> Accuracy | None:
        """The accuracy of an attempt on the pictures to report on, with the interval of its drop."""
        test, known = self.sets.test, attempt.measured
        if test is None or known is None:
            return None
        if test is not self.sets.validation:
            known = self._measure(attempt.artifact, test)
        own = self._own(test)
        before, after = own.measured.outcomes, known.outcomes
        interval = None
        if before is not None and after is not None:
            drop = compare(before, after)
            interval = drop.low, drop.high
        return replace(self._accuracy(known, own, test), interval=interval)

    def _own(self, data: LabelledData) -> OwnMetrics:
        """What the model itself reaches, found once and only when something is to be compared with it."""
        if data.split not in self._owns:
            self._owns[data.split] = own_metrics(self.original, data, self.budget.limit, self.budget.measured)
        return self._owns[data.split]

    @functools.cached_property
    def _owns(self) -> dict[str, OwnMetrics]:
        return {}

    def _plain(self, ptq: PtqOptions) -> Attempt:
        """What the recipe says."""
        made = quantize_parts(self.parts, ptq, self.sets.calibration)
        used = self._used(ptq)
        what = f"{used} calibration pictures" if used else f"the recipe {ptq.recipe.name}"
        return self._measured(made, ptq, what)

    def _can_mix(self, ptq: PtqOptions) -> bool:
        """Whether layers out of int8 could help: they cannot make the artifact better than the model."""
        able = self.finish.takes_mixed and self.parts.trained is None
        fits = ptq.recipe.needs_data and ptq.spec.backend == "ai-edge-quantizer"
        return able and fits and self.budget.max_drop is not None and self.budget.max_drop >= 0

    def _left(self) -> float:
        """What the recipe's steps leave of the budget."""
        data, budget = self.sets.validation, self.budget
        assert budget.max_drop is not None
        assert data is not None
        if self.model is self.original:
            return budget.max_drop
        own = self._own(data).measured.metrics
        wanted = {name: own[name] for name in headlines(spec_of(self.original))}
        smaller = own_metrics(self.model, data, budget.limit, budget.measured)
        return budget.max_drop - worst_drop(wanted, smaller.measured.metrics)

    def _mixed(self, ptq: PtqOptions, max_drop: float) -> Attempt:
        """Mixed precision, its layers chosen on the pictures that decide."""
        tune, calibration = self.sets.validation, self.sets.calibration
        assert tune is not None
        assert calibration is not None
        limit = self.budget.limit or TUNED_ON
        options = MixedOptions(max_drop, ptq, limit=limit, work=self.budget.work)
        found = mixed_parts(self.parts, MixedSets(calibration, tune), options)
        found.show()
        return self._measured(found.quantized, ptq, f"{_described(found)}, chosen on {tune.split}")

    def _measured(self, quantized: Quantized, ptq: PtqOptions, what: str) -> Attempt:
        network, used = self.finish.network(quantized.flatbuffer), self._used(ptq)
        problems = self.finish.problems(network)
        artifact = network if problems else self.finish(network)
        plain = Attempt(self.parts, quantized, artifact, used, None, what, problems)
        data = self.sets.validation
        if data is None or problems:
            return plain
        own, found = self._own(data), self._measure(artifact, data)
        accuracy = self._accuracy(found, own, data)
        judged = Judged(accuracy.split, accuracy.pictures)
        lost = ruined(spec_of(self.original), accuracy.counting, found.metrics, judged)
        return replace(plain, accuracy=accuracy, measured=found, ruined=lost)

    def _measure(self, artifact: bytes, data: LabelledData) -> Measured:
        runner = LiteRTModel.of_bytes(artifact)
        return measure(runner, data, limit=self.budget.limit, title=f"measuring the artifact on {data.split}")

    def _accuracy(self, found: Measured, own: OwnMetrics, data: LabelledData) -> Accuracy:
        count = len(data.records[: self.budget.limit])
        first, *others = headlines(spec_of(self.original))
        metrics = own.measured.metrics
        return Accuracy(first, data.split, count, metrics, found.metrics, tuple(others), own.digest)

    def _used(self, ptq: PtqOptions) -> int:
        return min(ptq.samples, len(self.sets.calibration.records)) if self.sets.calibration else 0


def _described(found: Mixed) -> str:
    share = 100 * found.report.figures["MACs in int8"]
    spec = found.ptq.spec
    corrected = ", biases corrected" if spec.correct_bias else ""
    kept = f"{len(found.kept)} layers in {spec.precision}, {share:.1f} % of MACs in int8"
    return f"mixed precision, {kept}, ranges by {found.ptq.range_rule().method}{corrected}"


def _has_more(ptq: PtqOptions, sets: Sets) -> bool:
    return sets.calibration is not None and len(sets.calibration.records) > ptq.samples


def _what_is_left(ptq: PtqOptions) -> str:
    if ptq.recipe.needs_data:
        return "left to try: --recipe dynamic or fp16, or training with quantization (QAT)"
    return "left to try: --recipe float32, which computes what the model computes"
