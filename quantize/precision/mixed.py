"""Automatic mixed precision: the fewest layers at higher precision such that the drop stays within a budget.

Layers are ranked by the output error when each is quantized alone. The search finds how many of the most
sensitive must stay out of int8, then returns to int8 those that the budget does not need. It measures as few
artifacts as possible, because measuring takes most of the time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.data.records import LabelledData
from effkeras.litert.flatbuffer import integer_share, operators
from effkeras.litert.runner import delegation, make_interpreter
from effkeras.support.console import facts, note, table
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder
from effkeras.support.measurements import Delegation
from quantize.formats import find
from quantize.post_training.artifact import FloatParts, Quantized, finished
from quantize.post_training.options import PtqOptions, check
from quantize.post_training.quantization import float_parts, inputs_of
from quantize.precision.measurements import MeasurementCache, MetricOf, digest, worst_drop
from quantize.precision.partial import Partial, QuantizableLayer, conversions
from quantize.precision.sensitivity import (
    KeptLayers,
    KeptLayerSearch,
    Sensitivity,
    SensitivityOptions,
    ranked,
)
from quantize.report import LayerReport, StepReport
from quantize.specs import PtqSpec, RangeMethod

if TYPE_CHECKING:
    import keras

    from effkeras.definitions.definition import ModelSpec
    from quantize.post_training.calibration import Calibration, CalibrationInputs

STEP = "mixed precision"
CACHE = "mixed.json"
KEPT = "layers kept"

Metrics = Mapping[str, float]
# Returns the metrics of an artifact that decide, by name; higher is better.
Metric = Callable[[bytes], Metrics]


@dataclass(frozen=True, slots=True)
class MixedSets:
    """The data to calibrate on, to search on (`tune`), and to report on (`test`).

    `tune` and `test` are labelled images, for a model built by effkeras, or a function that measures an
    artifact.
    """

    calibration: Calibration
    tune: LabelledData | Metric
    test: LabelledData | Metric | None = None


@dataclass(frozen=True, slots=True)
class MixedOptions:
    """The options of the search.

    `max_drop` is the budget, in units of the metric. `ptq` tells how layers are quantized and which precision
    the others keep. Layers are ranked on `images` images; artifacts are measured on the first `limit` images
    of their data. At most `requantize` artifacts are measured to return layers to int8. With a folder `work`,
    an interrupted search resumes.
    """

    max_drop: float
    ptq: PtqOptions
    images: int = 16
    limit: int | None = None
    requantize: int = 8
    work: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Mixed:
    """The result of the search.

    `reached` tells whether the drop on `tune` is within the budget; if not, the artifact is the best found.
    `ptq` tells how its layers are quantized. The report lists the layers at higher precision, with reasons;
    its figures are the drops on `tune` and `test`, the share of multiply-adds in int8, and the numbers of
    layers kept and of conversions.
    """

    quantized: Quantized
    ptq: PtqOptions
    reached: bool
    delegated: Delegation
    report: StepReport

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of the layers at higher precision."""
        return tuple(layer.name for layer in self.report.skipped)

    def show(self) -> None:
        """Prints the figures, and the reason for each layer at higher precision."""
        rows = [(name, f"{value:.4f}") for name, value in self.report.figures.items()]
        facts("mixed precision", [*rows, ("XNNPACK runs", str(self.delegated))])
        if self.report.skipped:
            kept = [(one.name, f"{one.error or 0:.4f}", one.why) for one in self.report.skipped]
            table("kept at higher precision", ("layer", "error", "why"), kept)


def mixed_precision(model: keras.Model, sets: MixedSets, options: MixedOptions) -> Mixed:
    """Quantizes a model except for the fewest layers that the budget requires.

    The worst drop of any metric that decides must stay within `options.max_drop` on `sets.tune`. First, the
    search chooses the range method with the smallest drop.

    Raises:
        EffkerasError: as `quantize.ptq`, or the recipe's activations stay in float.
    """
    if not options.ptq.format.needs_data:
        raise EffkerasError(
            f"mixed precision needs a recipe with integer activations; {options.ptq.format.name} has none: "
            "use --recipe int8"
        )
    check(options.ptq, sets.calibration)
    return mixed_parts(float_parts(model, options.ptq, sets.calibration), sets, options)


def mixed_parts(parts: FloatParts, sets: MixedSets, options: MixedOptions) -> Mixed:
    """As `mixed_precision`, for a float conversion."""
    tune = _metric(sets.tune, options)
    cache = _cache(parts, sets, options)
    if "float" not in cache:
        cache["float"] = dict(tune(_float_artifact(parts)))
    reference: Metrics = cache["float"]
    inputs = inputs_of(parts, options.ptq, sets.calibration)
    measure = _Measure(tune, reference, cache)
    partial, plain = _best_ranges(parts, inputs, options, measure)
    if plain.drop <= options.max_drop:
        found, ranking = plain, None
    else:
        note(
            f"plain {options.ptq.format.name} loses {plain.drop:.4f}: searching for the layers that cause it"
        )
        ranking = ranked(partial, SensitivityOptions(options.images), cache)
        search = KeptLayerSearch(options.max_drop, options.requantize, functools.partial(measure, partial))
        found = search.run(ranking.layers, partial, plain)
    return _result(partial, found, ranking, _Baseline(options, reference, cache, sets.test))


@dataclass(frozen=True, eq=False, slots=True)
class _Measure:
    """The worst drop of an artifact, measured once for each choice of layers."""

    tune: Metric
    reference: Metrics
    cache: MeasurementCache

    def __call__(self, partial: Partial, kept: Iterable[str]) -> float:
        names = sorted(kept)
        name = f"{digest(repr(partial.options.spec), *names)}: {len(names)} kept"
        if name not in self.cache:
            made = partial.all_but(names)
            self.cache[name] = dict(self.tune(made.flatbuffer))
            drop = worst_drop(self.reference, self.cache[name])
            method = partial.options.range_rule(partial.parts.spec).method
            note(f"  {len(names)} layers kept, ranges by {method}: drop {drop:.4f}")
        return worst_drop(self.reference, self.cache[name])


@dataclass(frozen=True, eq=False, slots=True)
class _Baseline:
    """What the result is compared with, and reported on."""

    options: MixedOptions
    reference: Metrics
    cache: MeasurementCache
    test: LabelledData | Metric | None


def _best_ranges(
    parts: FloatParts, inputs: CalibrationInputs, options: MixedOptions, measure: _Measure
) -> tuple[Partial, KeptLayers]:
    """The range method with the smallest drop with all layers in int8; the first within the budget."""
    best: tuple[Partial, KeptLayers] | None = None
    for spec in _specs(options.ptq, parts.spec):
        ptq = dataclasses.replace(options.ptq, spec=spec)
        partial = Partial.of(parts, ptq, inputs, options.images)
        choice = KeptLayers((), measure(partial, ()))
        if best is None or choice.drop < best[1].drop:
            best = partial, choice
        if choice.drop <= options.max_drop:
            break
    assert best is not None
    return best


def _specs(first: PtqOptions, model: ModelSpec | None) -> list[PtqSpec]:
    """The specs to try: the given one, then other range methods, then corrected biases."""
    methods: tuple[RangeMethod, ...] = (first.range_rule(model).method, "percentile", "mse", "minmax")
    plain = dataclasses.replace(first.spec, errors=False)
    specs = [dataclasses.replace(plain, ranges=method) for method in methods]
    specs.append(dataclasses.replace(plain, ranges="percentile", correct_bias=True))
    return list(dict.fromkeys(specs))


def _result(partial: Partial, found: KeptLayers, ranking: Sensitivity | None, baseline: _Baseline) -> Mixed:
    made = partial.all_but(found.kept)
    errors = {one.name: one.error for one in ranking.layers} if ranking else {}
    layers = [_entry(layer, found, errors.get(layer.name)) for layer in partial.layers]
    graph = operators(made.flatbuffer)
    figures = {
        "drop": found.drop,
        **_tested(made.flatbuffer, partial.parts, baseline),
        "MACs in int8": integer_share(graph),
        KEPT: float(len(found.kept)),
        "conversions": float(conversions(graph)),
    }
    report = StepReport(STEP, tuple(layers), "error / std of the outputs", figures)
    shared = delegation(make_interpreter(made.flatbuffer), made.flatbuffer)
    return Mixed(made, partial.options, found.drop <= baseline.options.max_drop, shared, report)


def _entry(layer: QuantizableLayer, found: KeptLayers, error: float | None) -> LayerReport:
    ops = ", ".join(dict.fromkeys(layer.ops))
    if layer.name in found.kept:
        return LayerReport(layer.name, ops, "skipped", found.why(layer.name), error)
    return LayerReport(layer.name, ops, "done", "", error)


def _tested(flatbuffer: bytes, parts: FloatParts, baseline: _Baseline) -> dict[str, float]:
    if baseline.test is None:
        return {}
    test = _metric(baseline.test, baseline.options)
    if "float, tested" not in baseline.cache:
        baseline.cache["float, tested"] = dict(test(_float_artifact(parts)))
    return {"drop when tested": worst_drop(baseline.cache["float, tested"], test(flatbuffer))}


def _metric(data: LabelledData | Metric, options: MixedOptions) -> Metric:
    return MetricOf(data, options.limit) if isinstance(data, LabelledData) else data


def _float_artifact(parts: FloatParts) -> bytes:
    """The unquantized model as an artifact that takes pixels."""
    options = PtqOptions(find("float32"))
    whole = float_parts(parts.model, options) if parts.starts_normalized else parts
    return finished(whole, options, whole.flatbuffer).flatbuffer


def _cache(parts: FloatParts, sets: MixedSets, options: MixedOptions) -> MeasurementCache:
    if options.work is None:
        return MeasurementCache()
    make_folder(options.work)
    asked = repr((options.ptq, options.images, options.limit))
    sets_used = [_name(one) for one in (sets.calibration, sets.tune, sets.test)]
    return MeasurementCache(options.work / CACHE, digest(parts.flatbuffer, asked, *sets_used))


def _name(data: object) -> str:
    if isinstance(data, LabelledData):
        return f"{data.root} {data.split} {len(data.records)}"
    return type(data).__name__
