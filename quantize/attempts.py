"""Quantization attempts: makes artifacts one after another until one keeps the accuracy budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from effkeras.inference.compare import Drop, Measured, compare, measure
from effkeras.inference.evaluate import headlines
from effkeras.inference.task import Outcomes, label_of
from effkeras.inference.tasks.classification import agreement
from effkeras.inference.threshold import ENTRY, Threshold
from effkeras.layers.normalize import spec_of
from effkeras.litert.rewriting import attach
from effkeras.litert.runner import LiteRTModel
from effkeras.support.console import note
from effkeras.support.phases import begin_phase
from quantize.acceptance import MeasuredOn, beyond_budget, lost_classes, ruined
from quantize.accuracy import MEASURING, Accuracy, ModelMetrics, model_metrics
from quantize.post_training.artifact import FloatParts, Quantized, read_quantized
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import quantize_parts
from quantize.precision.measurements import worst_drop
from quantize.precision.mixed import Mixed, MixedOptions, MixedSets, mixed_parts
from quantize.splits import Splits

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData
    from effkeras.definitions.definition import ModelSpec
    from effkeras.detection.nms import Decoder
    from quantize.report import StepReport

MORE_SAMPLES = 4
# Phases of the driver.
QUANTIZING, PLAIN_QUANTIZING = "quantizing", "quantizing to plain int8"


class Finishing(Protocol):
    """How a consumer turns a quantized network into its artifact."""

    @property
    def takes_mixed(self) -> bool:
        """Whether some layers may stay at a higher precision than the recipe's."""

    @property
    def decoder(self) -> Decoder | None:
        """Applies the same NMS as the finished artifact; None when the artifact contains no NMS."""

    def network(self, flatbuffer: bytes) -> bytes:
        """The network rewritten to operators that the consumer runs; it computes the same."""

    def problems(self, network: bytes) -> tuple[str, ...]:
        """Why the consumer could not run the network, whatever its accuracy; empty if it can."""

    def __call__(self, network: bytes) -> bytes:
        """The artifact: the network with everything the consumer needs, such as metadata."""


@dataclass(frozen=True, slots=True)
class AsQuantized:
    """The finishing for no particular consumer: the artifact is the quantized network.

    `threshold` is the model's, for the metadata; None if none is known.
    """

    threshold: Threshold | None = None
    takes_mixed: ClassVar[bool] = True
    decoder: ClassVar[None] = None

    def network(self, flatbuffer: bytes) -> bytes:
        """The network as it is."""
        return flatbuffer

    def problems(self, _: bytes) -> tuple[str, ...]:
        """No problems."""
        return ()

    def __call__(self, network: bytes) -> bytes:
        """The network with the threshold in its metadata."""
        return network if self.threshold is None else attach(network, ENTRY, self.threshold.to_bytes())


@dataclass(frozen=True, slots=True)
class Budget:
    """The largest drop an artifact may have, and how the drop is measured.

    `max_drop` is in units of the metric; None allows any drop up to a fifth of the metric, and `force`
    allows even larger ones. Metrics are measured on the first `limit` images of a split. The search for mixed
    precision uses the first `search_limit` images and keeps its results in the folder `work`. The folder
    `measured` caches the metrics of Keras models.
    """

    max_drop: float | None = None
    force: bool = False
    limit: int | None = None
    search_limit: int | None = None
    work: Path | None = None
    measured: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Attempt:
    """One artifact that was made; `what` describes how.

    `quantized` is the network, `mixed` the search that produced it, if any, `artifact` the file for the
    consumer. `accuracy` is its accuracy on the validation split, from `measured`; `ruined` is a message
    when more than a fifth of the metric is lost, `lost` names classes that lost as much. `problems` are
    reasons why the consumer cannot run it; then nothing is measured.
    """

    quantized: Quantized
    artifact: bytes
    samples: int
    what: str
    accuracy: Accuracy | None = None
    problems: tuple[str, ...] = ()
    measured: Measured | None = None
    ruined: str = ""
    lost: tuple[str, ...] = ()
    mixed: Mixed | None = None

    @property
    def report(self) -> StepReport:
        """The report of each layer."""
        return self.quantized.report if self.mixed is None else self.mixed.report

    @property
    def drop(self) -> float:
        """The worst drop; infinite if it is NaN or the consumer cannot run it, 0 if not measured."""
        drop = 0.0 if self.accuracy is None else self.accuracy.worst_drop
        return math.inf if self.problems or math.isnan(drop) else drop

    def beyond(self, budget: Budget) -> str:
        """Returns a message when the drop exceeds the budget; else ""."""
        if self.accuracy is None:
            return ""
        return beyond_budget(self.accuracy.split, self.drop, budget.max_drop)

    def passes(self, budget: Budget) -> bool:
        """Whether the artifact may be written."""
        return (budget.force or not self.ruined) and not self.problems and not self.beyond(budget)


@dataclass(frozen=True, eq=False, slots=True)
class Attempts:
    """All attempts for one model, and what they share.

    `original` is the model they are compared with, `model` the result of the recipe's steps (the same model
    if there are none). `source` is the float conversion of `model`, or an artifact that the last step made.
    Decisions use metrics on the validation split.
    """

    original: keras.Model
    model: keras.Model
    source: FloatParts | bytes
    budget: Budget
    splits: Splits
    finishing: Finishing
    _metrics: dict[tuple[int, int], ModelMetrics] = field(default_factory=dict)
    _on_test: dict[int, Measured] = field(default_factory=dict)

    def run(self, ptq: PtqOptions) -> Iterator[Attempt]:
        """Makes attempts in order, until one keeps the budget or nothing is left to try."""
        budget = self.budget
        attempt = self._plain(ptq)
        yield attempt
        if attempt.beyond(budget) and self._has_more(ptq):
            note(f"the metric drops by more than {budget.max_drop}: trying more calibration images")
            ptq = replace(ptq, samples=ptq.samples * MORE_SAMPLES)
            attempt = self._plain(ptq)
            yield attempt
        if attempt.beyond(budget) and isinstance(self.source, FloatParts) and self._can_mix(ptq, self.source):
            left = self._left()
            if left < 0:
                note(f"the steps before lose too much already: no choice of layers keeps {budget.max_drop}")
                return
            note(f"the metric drops by more than {budget.max_drop}: trying more bits for the worst layers")
            yield self._mixed(self.source, ptq, left)

    def reported(self, attempt: Attempt) -> Accuracy | None:
        """The accuracy of an attempt on the test split, with the interval of its drop."""
        test, known = self.splits.test, self._measured_on_test(attempt)
        if test is None or known is None:
            return None
        own = self._metrics_of(self.original, test)
        found, before, after = self._accuracy(known, own, test), own.measured.outcomes, known.outcomes
        if before is None or after is None:
            return found
        drop = compare(before, after)
        return replace(
            found,
            interval=(drop.low, drop.high),
            model_within=drop.before_within,
            artifact_within=drop.after_within,
            agreement=agreement(before, after),
            model_classes=_classes(spec_of(self.original), before),
            artifact_classes=_classes(spec_of(self.original), after),
        )

    def between(self, one: Attempt, other: Attempt) -> Drop | None:
        """The drop from one attempt to another on the test split; None without outcomes for each image."""
        before, after = (self._measured_on_test(each) for each in (one, other))
        if before is None or after is None or before.outcomes is None or after.outcomes is None:
            return None
        return compare(before.outcomes, after.outcomes)

    def beside(self, source: FloatParts, finishing: Finishing, ptq: PtqOptions) -> Attempt:
        """The attempt that quantizes the original model by other options, to be reported only."""
        begin_phase(PLAIN_QUANTIZING)
        made = Attempt(quantize_parts(source, ptq, self.splits.train), b"", self._used(ptq), ptq.format.name)
        return _finished(made, finishing)

    def _measured_on_test(self, attempt: Attempt) -> Measured | None:
        """The artifact measured on the test split, once; None without that split, or if it cannot run."""
        test = self.splits.test
        if test is None or attempt.problems:
            return None
        if test is self.splits.validation and attempt.measured is not None:
            return attempt.measured
        if id(attempt) not in self._on_test:
            self._on_test[id(attempt)] = self._measure(attempt.artifact, test)
        return self._on_test[id(attempt)]

    def lost_by_steps(self) -> float:
        """The drop on the validation split that the recipe's steps cause before quantization."""
        data = self.splits.validation
        if self.model is self.original or data is None:
            return 0.0
        names = headlines(spec_of(self.original))
        before, after = (self._metrics_of(one, data).counting(names) for one in (self.original, self.model))
        return worst_drop(before, after)

    def remedies(self, attempts: Sequence[Attempt], ptq: PtqOptions) -> tuple[str, ...]:
        """The attempts against too large a drop, in order, and what is left to try."""
        if not attempts[0].beyond(self.budget):
            return ()
        lines = [f"{one.what}: drop {one.drop:.4f}" for one in attempts]
        used, data = attempts[0].samples, self.splits.train
        if used and data is not None and used == len(data.records):
            lines.insert(1, f"more calibration images: all {used} are used already")
        if all(one.beyond(self.budget) for one in attempts):
            lines.append(_what_is_left(ptq))
        return tuple(lines)

    def _metrics_of(self, model: keras.Model, data: LabelledData) -> ModelMetrics:
        """The metrics of a model, measured once, and only when something is compared with it."""
        key = id(model), id(data)
        if key not in self._metrics:
            self._metrics[key] = model_metrics(model, data, self.budget.limit, self.budget.measured)
        return self._metrics[key]

    def _plain(self, ptq: PtqOptions) -> Attempt:
        """The attempt with the recipe as given."""
        used = self._used(ptq)
        what = f"{used} calibration images" if used else f"the recipe {ptq.format.name}"
        begin_phase(QUANTIZING)
        if isinstance(self.source, bytes):
            return self._measured(Attempt(read_quantized(self.source, ptq), b"", used, what))
        return self._measured(Attempt(quantize_parts(self.source, ptq, self.splits.train), b"", used, what))

    def _can_mix(self, ptq: PtqOptions, parts: FloatParts) -> bool:
        """Whether mixed precision could help: it cannot make the artifact better than the model."""
        able = self.finishing.takes_mixed and parts.trained is None
        fits = ptq.format.needs_data and ptq.spec.backend == "ai-edge-quantizer"
        return able and fits and self.budget.max_drop is not None and self.budget.max_drop >= 0

    def _left(self) -> float:
        """The part of the budget that is left after the recipe's steps."""
        assert self.budget.max_drop is not None
        return self.budget.max_drop - self.lost_by_steps()

    def _mixed(self, parts: FloatParts, ptq: PtqOptions, max_drop: float) -> Attempt:
        """The attempt with mixed precision, its layers chosen on the validation split."""
        tune, calibration = self.splits.validation, self.splits.train
        assert tune is not None
        assert calibration is not None
        options = MixedOptions(max_drop, ptq, limit=self.budget.search_limit, work=self.budget.work)
        found = mixed_parts(parts, MixedSets(calibration, tune), options)
        found.show()
        what = f"{_described(found)}, chosen on {tune.split}"
        return self._measured(Attempt(found.quantized, b"", self._used(ptq), what, mixed=found))

    def _measured(self, attempt: Attempt) -> Attempt:
        """The attempt with its artifact, and the artifact's accuracy on the validation split."""
        attempt, data = _finished(attempt, self.finishing), self.splits.validation
        if data is None or attempt.problems:
            return attempt
        own, found = self._metrics_of(self.original, data), self._measure(attempt.artifact, data)
        accuracy = self._accuracy(found, own, data)
        measured_on = MeasuredOn(accuracy.split, accuracy.images)
        spec = spec_of(self.original)
        most = ruined(spec, accuracy.counting, found.metrics, measured_on)
        lost = _lost_classes(spec, own.measured, found)
        return replace(attempt, accuracy=accuracy, measured=found, ruined=most, lost=lost)

    def _measure(self, artifact: bytes, data: LabelledData) -> Measured:
        runner, title = LiteRTModel.of_bytes(artifact), MEASURING.format("artifact", data.split)
        begin_phase(title)
        return measure(runner, data, limit=self.budget.limit, title=title)

    def _accuracy(self, found: Measured, own: ModelMetrics, data: LabelledData) -> Accuracy:
        count = len(data.records[: self.budget.limit])
        first, *others = headlines(spec_of(self.original))
        metrics = own.measured.metrics
        return Accuracy(first, data.split, count, metrics, found.metrics, tuple(others), own.digest)

    def _used(self, ptq: PtqOptions) -> int:
        """The number of calibration images used."""
        data = self.splits.train
        return min(ptq.samples, len(data.records)) if data is not None and ptq.format.needs_data else 0

    def _has_more(self, ptq: PtqOptions) -> bool:
        """Whether there are more calibration images, and they could change the result."""
        data = self.splits.train
        measures = ptq.format.needs_data and not isinstance(self.source, bytes) and not self.source.trained
        return measures and data is not None and len(data.records) > ptq.samples


def _finished(attempt: Attempt, finishing: Finishing) -> Attempt:
    """The attempt with the consumer's artifact, or the reasons why there is none."""
    network = finishing.network(attempt.quantized.flatbuffer)
    problems = finishing.problems(network)
    if problems:
        return replace(attempt, artifact=network, problems=problems)
    return replace(attempt, artifact=finishing(network))


def _lost_classes(spec: ModelSpec, before: Measured, after: Measured) -> tuple[str, ...]:
    own, found = before.outcomes, after.outcomes
    if own is None or found is None:
        return ()
    return lost_classes(spec.labels, own.class_metric, own.by_class(), found.by_class())


def _classes(spec: ModelSpec, outcomes: Outcomes) -> dict[str, float]:
    return {label_of(spec, index): one.value for index, one in outcomes.by_class().items()}


def _described(found: Mixed) -> str:
    share = 100 * found.report.figures["MACs in int8"]
    spec = found.ptq.spec
    corrected = ", biases corrected" if spec.correct_bias else ""
    kept = f"{len(found.kept)} layers in {spec.precision}, {share:.1f} % of MACs in int8"
    return f"mixed precision, {kept}, ranges by {found.ptq.range_rule().method}{corrected}"


def _what_is_left(ptq: PtqOptions) -> str:
    if ptq.format.needs_data:
        return "left to try: --recipe dynamic or fp16, or training with quantization (QAT)"
    return "left to try: --recipe float32, which computes what the model computes"
