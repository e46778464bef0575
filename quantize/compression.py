"""From a trained model and a recipe to a smaller model and an artifact whose loss is known."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from effkeras import results
from effkeras.compare import Drop, compare, measure
from effkeras.console import note
from effkeras.evaluate import evaluate, headlines
from effkeras.external import adopted
from effkeras.files import safe_name, write_text
from effkeras.litert.costs import integer_share
from effkeras.litert.flatbuffer import operators
from effkeras.litert.runner import Delegation, LiteRTModel
from effkeras.models import save, spec_of
from effkeras.predictor import KerasPredictor, Predictor
from effkeras.training.run import Run
from effkeras.training.settings import TrainSettings
from quantize import plans
from quantize.aware.quantization_aware import is_fake_quantized
from quantize.checks.acceptance import Judged, beyond_budget, ruined
from quantize.checks.artifact import Checked, Reference, write_checked
from quantize.checks.pictures import pictures_of
from quantize.magnitude.sparsity import sparsity_of
from quantize.pipeline import Trainer, Work, artifact_of_steps, run_steps
from quantize.plans import Plan
from quantize.post_training.quantization import SAMPLES, PtqOptions, Quantized, check, ptq, read_quantized
from quantize.precision.judging import worst_drop
from quantize.precision.mixed import KEPT, MixedOptions, MixedSets, mixed_precision
from quantize.precision.partial import check_can_mix
from quantize.recipes import Edges
from quantize.report import StepReport
from quantize.splits import Splits


@dataclass(frozen=True, slots=True)
class CompressOptions:
    """How a recipe is carried out.

    `max_drop` is what may be lost of the metric, in its units: 0.01 is one point of AP or top-1. `settings`
    are those that the model was trained with; augmentation is kept. `folder` keeps the work, so that the
    same call goes on where it was interrupted; None keeps nothing. With `strict`, a layer that cannot be
    quantized is an error. `backend` "tfmot" has tensorflow-model-optimization do the steps, where it can.
    With `force`, an artifact that lost most of the metric is written all the same.
    """

    max_drop: float | None = None
    io: Edges = "float32"
    samples: int = SAMPLES
    strict: bool = False
    backend: Trainer = "effkeras"
    settings: TrainSettings = field(default_factory=TrainSettings)
    folder: Path | None = None
    force: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Compression:
    """What a recipe made of a model.

    `model` is the compressed Keras model, `quantized` the artifact. `drop` is what the artifact loses on the
    test pictures against the model that was given, with its interval; `validated` the same drop on the
    pictures that decisions were made by, `by_steps` what of that the compressed Keras model loses already.
    `passed` says whether the artifact was written: `validated` is within the budget, `ruined` does not say
    that most of the metric is lost (or force was asked for), and a look at the file found no `problems`, such
    as an output that is not a number. `decided_on` and `reported_on` are the splits.
    """

    plan: Plan
    model: keras.Model
    quantized: Quantized
    reports: tuple[StepReport, ...]
    drop: Drop
    validated: float
    by_steps: float
    passed: bool
    delegated: Delegation
    figures: Mapping[str, float]
    decided_on: str
    reported_on: str
    problems: tuple[str, ...] = ()
    ruined: str = ""

    def to_row(self) -> dict[str, Any]:
        """The result as a plain record, kind "compression"."""
        return {
            "kind": "compression",
            "model": spec_of(self.model).name,
            "recipe": self.plan.to_table() | {"name": self.plan.name},
            "metric": self.drop.metric,
            "before": self.drop.before,
            "after": self.drop.after,
            "drop": self.drop.drop,
            "interval": [self.drop.low, self.drop.high],
            "validated_drop": self.validated,
            "validated_drop_by_steps": self.by_steps,
            "validated_on": self.decided_on,
            "ruined": self.ruined,
            "passed": self.passed,
            "problems": list(self.problems),
            "layers_kept": int(self.reports[-1].figures.get(KEPT, 0)),
            "ranges": self.quantized.ranges,
            "total_ops": self.delegated.total_ops,
            "delegated_ops": self.delegated.delegated_ops,
            "partitions": self.delegated.partitions,
            **self.figures,
        }


def compress(
    model: keras.Model,
    recipe: str | Path | Plan,
    data: Path | str | Splits,
    options: CompressOptions | None = None,
) -> Compression:
    """Compresses a trained model by a recipe, and measures what that costs.

    Steps that change the model are each followed by a short training on the split train; the artifact's
    ranges are measured there too. What has to be decided is decided on val, and what is reported is measured
    on test.

    Args:
        model: a trained model; it stays untouched. One that effkeras did not build must be a classifier that
            takes RGB pixels 0..255, see `effkeras.external.adopt`.
        recipe: a recipe's name, such as "prune50-int8", or a TOML file.
        data: a folder of labelled pictures with the splits train, val and test, or those splits.
        options: budget, edges, folder.

    Raises:
        EffkerasError: a recipe or data that make no sense, weights or activations that are not finite, or a
            folder that holds other work.
    """
    options = options or CompressOptions()
    plan = plans.find(recipe)
    model = adopted(model)
    splits = data if isinstance(data, Splits) else Splits.open(Path(data), spec_of(model))
    _check(plan, options, splits)
    if options.folder is not None:
        return _compress(model, plan, splits, options, options.folder)
    with tempfile.TemporaryDirectory() as folder:
        return _compress(model, plan, splits, options, Path(folder))


def _check(plan: Plan, options: CompressOptions, splits: Splits) -> None:
    check(_ptq_options(plan, options), splits.train)
    if options.max_drop is not None and can_mix(plan):
        check_can_mix(plan.ptq)


def _compress(
    model: keras.Model, plan: Plan, splits: Splits, options: CompressOptions, folder: Path
) -> Compression:
    work = Work(folder, options.settings, options.strict, options.backend, options.io)
    steps = run_steps(model, plan, splits, work)
    smaller = steps[-1].model if steps else model
    reference = _worst(KerasPredictor.of(model), splits)
    lost = worst_drop(reference, _worst(KerasPredictor.of(smaller), splits)) if steps else 0.0
    quantized, report = _artifact(smaller, plan, splits, options, (folder, lost))
    if options.strict and options.max_drop is None:  # within a budget layers are left in float on purpose
        quantized.check_strict(plan.format)
    runner = LiteRTModel.of_bytes(quantized.flatbuffer)
    kept, decided_on = _worst(runner, splits), splits.validation.split
    validated = worst_drop(reference, kept)
    judged = Judged(decided_on, len(splits.validation.records))
    loss = ruined(spec_of(model), reference, kept, judged)
    made = Compression(
        plan=plan,
        model=smaller,
        quantized=quantized,
        reports=(*(one.report for one in steps), *quantized.before, report),
        drop=_tested(KerasPredictor.of(model), runner, splits),
        validated=validated,
        by_steps=lost,
        passed=not beyond_budget(decided_on, validated, options.max_drop) and (options.force or not loss),
        delegated=runner.delegated(),
        figures=_figures(smaller, quantized),
        decided_on=decided_on,
        reported_on=splits.test.split,
        ruined=loss,
    )
    if made.passed:
        shown = pictures_of(spec_of(smaller).input, splits.validation)
        made = _written(made, artifact_file(folder, plan, options.io), shown)
    _keep(made, folder)
    return made


def _artifact(
    model: keras.Model, plan: Plan, splits: Splits, options: CompressOptions, so_far: tuple[Path, float]
) -> tuple[Quantized, StepReport]:
    """The artifact; beyond the budget with layers at higher precision, if the recipe leaves that open."""
    folder, lost = so_far
    how = _ptq_options(plan, options)
    given = artifact_of_steps(folder)
    if given is not None:
        made = read_quantized(given, how)
        return made, made.report
    left = None if options.max_drop is None else options.max_drop - lost
    if left is not None and left < 0:
        note(f"the steps before lose {lost:.4f} already: no choice of layers keeps the budget")
    if left is not None and left >= 0 and can_mix(plan, model):
        sets = MixedSets(splits.train, splits.validation, splits.test)
        found = mixed_precision(model, sets, MixedOptions(left, how, work=folder / "mixed"))
        for one in found.quantized.before:
            one.show()
        found.show()
        return found.quantized, found.report
    made = ptq(model, plan.format, splits.train, io=how.io, samples=how.samples, seed=how.seed, spec=how.spec)
    for one in (*made.before, made.report):
        one.show()
    return made, made.report


def can_mix(plan: Plan, model: keras.Model | None = None) -> bool:
    """Whether layers of a recipe's artifact may stay at higher precision to keep a budget."""
    trained = plan.steps.qat is not None or (model is not None and is_fake_quantized(model))
    return plan.format.needs_data and not trained


def _ptq_options(plan: Plan, options: CompressOptions) -> PtqOptions:
    return PtqOptions(plan.format, options.io, options.samples, plan.steps.tune.seed, plan.ptq)


def _worst(predictor: Predictor, splits: Splits) -> dict[str, float]:
    """The metrics that count, on the pictures that decisions are made by."""
    data = splits.validation
    metrics = evaluate(predictor, data, title=f"measuring on {data.split}")
    return {name: metrics[name] for name in headlines(predictor.spec)}


def _tested(model: Predictor, artifact: Predictor, splits: Splits) -> Drop:
    ours = measure(model, splits.test, title="testing the model")
    theirs = measure(artifact, splits.test, title="testing the artifact")
    if ours.outcomes is None or theirs.outcomes is None:
        before, after = (one.metrics["mIoU"] for one in (ours, theirs))
        return Drop("mIoU", before, after, before - after, before - after)
    return compare(ours.outcomes, theirs.outcomes)


def _figures(model: keras.Model, quantized: Quantized) -> dict[str, float]:
    flatbuffer = quantized.flatbuffer
    return {
        "bytes": len(flatbuffer),
        "gzipped_bytes": len(gzip.compress(flatbuffer, mtime=0)),
        "parameters": model.count_params(),
        "sparsity": sparsity_of(model).share,
        "int8_macs": integer_share(operators(flatbuffer)),
    }


def _written(made: Compression, file: Path, pictures: np.ndarray) -> Compression:
    """Writes the artifact, unless a look at the file finds problems; what was made, with those."""
    reference = Reference(made.model, pictures, made.plan.format.name)

    def seen(checked: Checked) -> Compression:
        return replace(made, passed=not checked.problems, problems=checked.problems)

    return seen(write_checked(file, made.quantized.flatbuffer, reference, lambda found: _beside(seen(found))))


def _beside(made: Compression) -> str:
    """The text of the .json beside the artifact."""
    said = {"recipe": made.plan.to_table(), "report": results.stamped(made.to_row())}
    return json.dumps(said, indent=2) + "\n"


def _keep(made: Compression, folder: Path) -> None:
    """Makes a run folder of it: the model, its definition and its reports."""
    run, spec = Run(folder), spec_of(made.model)
    save(made.model, run.model)
    write_text(run.definition, spec.to_toml())
    write_text(run.labels, "".join(f"{label}\n" for label in spec.labels))
    row = results.stamped(made.to_row())
    reports = {"result": row, "steps": [report.to_row() for report in made.reports]}
    write_text(folder / "report.json", json.dumps(reports, indent=1) + "\n")
    results.append(run.results, [row])


def artifact_file(folder: Path, plan: Plan, io: Edges) -> Path:
    """Where a recipe's artifact with such edges goes."""
    name = safe_name(plan.name, "the recipe's name") + ("" if io == "float32" else f"-{io}")
    return Run(folder).artifacts / f"{name}.tflite"
