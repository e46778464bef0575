"""Artifacts that are tried one after the other while they lose too much, and what is said of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.console import note
from effkeras.evaluate import evaluate, headlines
from effkeras.litert.runner import LiteRTModel
from export.accuracy import Accuracy
from export.consumers.finishing import Finish
from export.own_metrics import OwnMetrics, own_metrics
from export.sets import Sets
from quantize.post_training.quantization import FloatParts, PtqOptions, Quantized, float_parts, quantize_parts
from quantize.precision.mixed import Mixed, MixedOptions, MixedSets, mixed_parts

if TYPE_CHECKING:
    import keras

MORE_SAMPLES = 4
TUNED_ON = 500


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be lost, measured on the first `limit` pictures.

    `work` keeps what a search has found, `records` are rows of a run's exports before.
    """

    max_drop: float | None
    limit: int | None
    work: Path
    records: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Attempt:
    """One artifact that was tried; `what` says how it was made.

    `parts` is the float conversion that it comes from, `quantized` the network, `artifact` the file for the
    consumer. `problems` are reasons why the consumer cannot run it; nothing is measured then.
    """

    parts: FloatParts
    quantized: Quantized
    artifact: bytes
    samples: int
    accuracy: Accuracy | None
    what: str
    problems: tuple[str, ...] = ()

    @property
    def drop(self) -> float:
        """The worst drop; infinite if it is not a number or the consumer cannot run it, 0 if not measured."""
        drop = 0.0 if self.accuracy is None else self.accuracy.worst_drop
        return math.inf if self.problems or math.isnan(drop) else drop

    def loses_more(self, max_drop: float | None) -> bool:
        """Whether the drop is beyond a budget."""
        return max_drop is not None and self.accuracy is not None and self.drop > max_drop


def tried(
    model: keras.Model, ptq: PtqOptions, budget: Budget, sets: Sets, finish: Finish
) -> Iterator[Attempt]:
    """Artifacts in the order they are tried, until one is good enough or the consumer cannot run any."""
    note("converting")
    parts = float_parts(model, ptq, sets.calibration)
    trial = _Trial(model, parts, budget, sets, finish)
    attempt = trial.plain(ptq)
    yield attempt
    if attempt.loses_more(budget.max_drop) and _has_more(ptq, sets):
        note(f"the metric drops by more than {budget.max_drop}: trying more calibration pictures")
        ptq = replace(ptq, samples=ptq.samples * MORE_SAMPLES)
        attempt = trial.plain(ptq)
        yield attempt
    if attempt.loses_more(budget.max_drop) and _can_mix(ptq, budget) and finish.takes_mixed:
        note(f"the metric drops by more than {budget.max_drop}: trying more bits for the worst layers")
        yield trial.mixed(ptq)


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
class _Trial:
    """What all attempts have in common."""

    model: keras.Model
    parts: FloatParts
    budget: Budget
    sets: Sets
    finish: Finish

    @functools.cached_property
    def reference(self) -> OwnMetrics | None:
        """The model's own metrics, found once and only when something is to be compared with them."""
        if self.sets.check is None:
            return None
        return own_metrics(self.model, self.sets.check, self.budget.limit, self.budget.records)

    def plain(self, ptq: PtqOptions) -> Attempt:
        """What the recipe says."""
        made = quantize_parts(self.parts, ptq, self.sets.calibration)
        used = self._used(ptq)
        what = f"{used} calibration pictures" if used else f"the recipe {ptq.recipe.name}"
        return self._measured(made, ptq, what)

    def mixed(self, ptq: PtqOptions) -> Attempt:
        """Mixed precision, its layers chosen on pictures that accuracy is not reported on."""
        assert self.budget.max_drop is not None
        assert self.parts.spec is not None
        assert self.sets.calibration is not None
        tune = self.sets.to_tune(self.parts.spec)
        limit = self.budget.limit or TUNED_ON
        options = MixedOptions(self.budget.max_drop, ptq, limit=limit, work=self.budget.work)
        found = mixed_parts(self.parts, MixedSets(self.sets.calibration, tune), options)
        found.show()
        return self._measured(found.quantized, ptq, f"{_described(found)}, chosen on {tune.split}")

    def _measured(self, quantized: Quantized, ptq: PtqOptions, what: str) -> Attempt:
        network, used = self.finish.network(quantized.flatbuffer), self._used(ptq)
        problems = self.finish.problems(network)
        artifact = network if problems else self.finish(network)
        accuracy = None if problems else self._accuracy(artifact)
        return Attempt(self.parts, quantized, artifact, used, accuracy, what, problems)

    def _accuracy(self, artifact: bytes) -> Accuracy | None:
        check, own = self.sets.check, self.reference
        if check is None or own is None:
            return None
        runner = LiteRTModel.of_bytes(artifact)
        metrics = evaluate(runner, check, limit=self.budget.limit, title="measuring the artifact")
        count = len(check.records[: self.budget.limit])
        first, *others = headlines(runner.spec)
        return Accuracy(first, check.split, count, own.metrics, metrics, tuple(others), own.digest)

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


def _can_mix(ptq: PtqOptions, budget: Budget) -> bool:
    """Whether layers out of int8 could help: they cannot make the artifact better than the model."""
    able = ptq.recipe.needs_data and ptq.spec.backend == "ai-edge-quantizer"
    return able and budget.max_drop is not None and budget.max_drop >= 0


def _what_is_left(ptq: PtqOptions) -> str:
    if ptq.recipe.needs_data:
        return "left to try: --recipe dynamic or fp16, or training with quantization (QAT)"
    return "left to try: --recipe float32, which computes what the model computes"
