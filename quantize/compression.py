"""Compresses a trained model by a recipe to a smaller model and an artifact, and measures its drop."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from effkeras.building.external import adopted
from effkeras.inference.compare import Drop
from effkeras.inference.threshold import Threshold
from effkeras.layers.normalize import spec_of
from effkeras.litert.flatbuffer import integer_share, operators
from effkeras.litert.runner import LiteRTModel
from effkeras.support import results
from effkeras.support.files import check_can_make, safe_name, write_text
from effkeras.support.locks import working_in
from effkeras.support.measurements import Delegation
from effkeras.training.run import Run
from effkeras.training.settings import TrainSettings
from effkeras.weights.keras_files import save
from quantize import recipes
from quantize.accuracy import Accuracy
from quantize.attempts import AsQuantized, Attempt, Budget
from quantize.beside import Beside
from quantize.checks import Checked
from quantize.driver import Job, Made, make, write
from quantize.formats import IoType
from quantize.magnitude.sparsity import sparsity_of
from quantize.post_training.artifact import Quantized
from quantize.post_training.options import SAMPLES, PtqOptions, check
from quantize.precision.mixed import KEPT
from quantize.precision.partial import check_can_mix
from quantize.recipes import Recipe
from quantize.report import StepReport
from quantize.runs.cards import write_card
from quantize.splits import Splits
from quantize.time_limit import TimeLimit
from quantize.work_folder import Trainer, Work


@dataclass(frozen=True, slots=True)
class CompressOptions:
    """The options of `compress`.

    `max_drop` is the largest allowed drop of the metric, in its units: 0.01 is one point of AP or top-1.
    `settings` are the model's training settings; the steps reuse their augmentation. `folder` keeps the work,
    so that the same call resumes after an interruption; None keeps nothing. With `strict`, a layer that
    cannot be quantized is an error. With `backend` "tfmot", tensorflow-model-optimization runs the steps that
    it supports. With `force`, an artifact that lost more than a fifth of the metric is written nevertheless.
    With `beside`, plain int8 of the same model is made and measured too. `limit` bounds the time that the
    trainings take. `threshold` is a detector's, for the artifact's metadata. `trained_in` is the model's run
    folder, if any: the new folder keeps what that one says of its data.
    """

    max_drop: float | None = None
    io: IoType = "float32"
    samples: int = SAMPLES
    strict: bool = False
    backend: Trainer = "effkeras"
    settings: TrainSettings = field(default_factory=TrainSettings)
    folder: Path | None = None
    force: bool = False
    beside: bool = False
    limit: TimeLimit | None = None
    threshold: Threshold | None = None
    trained_in: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Compression:
    """The result of compressing a model by a recipe.

    `model` is the compressed Keras model, `quantized` the artifact. `drop` is the artifact's drop against the
    original model on the split `reported_on`, with its interval. `validated` is the drop on the split
    `decided_on`, `by_steps` the part of it that the compressed Keras model already has. `passed` tells
    whether the artifact was written: `validated` is within the budget, `ruined` is empty (or `force` is set),
    and the check of the file found no `problems`, such as NaN outputs. `lost` names classes that lost more
    than a fifth, `agreement` is the share of images with the model's best class, and `beside` compares the
    artifact with float32 and plain int8. `artifact` is the name of its file, `io` the type of its inputs and
    outputs, `calibrated_on` the number of images that its ranges come from. `images` is the number of those
    that `drop` was measured on, and `reported` all metrics there, with those of each class.
    """

    recipe: Recipe
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
    lost: tuple[str, ...] = ()
    agreement: float | None = None
    beside: Beside | None = None
    artifact: str = ""
    io: IoType = "float32"
    calibrated_on: int = 0
    images: int = 0
    reported: Accuracy | None = None

    def to_row(self) -> dict[str, Any]:
        """The result as a plain record, kind "compression"."""
        return {
            "kind": "compression",
            "model": spec_of(self.model).name,
            "recipe": self.recipe.to_table() | {"name": self.recipe.name},
            "artifact": self.artifact,
            "io": self.io,
            "calibration_images": self.calibrated_on,
            "split": self.reported_on,
            "images": self.images,
            "metric": self.drop.metric,
            "before": self.drop.before,
            "after": self.drop.after,
            "drop": self.drop.drop,
            "interval": [self.drop.low, self.drop.high],
            **_metrics_row(self.reported),
            "validated_drop": self.validated,
            "validated_drop_by_steps": self.by_steps,
            "validated_on": self.decided_on,
            "ruined": self.ruined,
            "lost_classes": list(self.lost),
            "agreement": self.agreement,
            "beside": self.beside.to_rows() if self.beside else [],
            "passed": self.passed,
            "problems": list(self.problems),
            "layers_kept": int(self.reports[-1].figures.get(KEPT, 0)),
            "ranges": self.quantized.ranges,
            **self.delegated.to_row(),
            **self.figures,
        }


def compress(
    model: keras.Model,
    recipe: str | Path | Recipe,
    data: Path | str | Splits,
    options: CompressOptions | None = None,
) -> Compression:
    """Compresses a trained model by a recipe, and measures the drop.

    Each step that changes the model is followed by a short training on the split train. Calibration uses
    train too. All decisions are made on val, and the reported drop is measured on test.

    Args:
        model: a trained model; it is not changed. A model that effkeras did not build must be a classifier
            that takes RGB pixels 0..255, see `effkeras.building.external.adopt`.
        recipe: a recipe's name, such as "prune50-int8", or a TOML file.
        data: a folder of labelled images with the splits train, val and test, or those splits.
        options: budget, type of inputs and outputs, folder.

    Raises:
        EffkerasError: the recipe or the data is invalid, weights or activations are NaN or infinite, or the
            folder holds other work.
    """
    options = options or CompressOptions()
    recipe = recipes.find(recipe)
    model = adopted(model)
    splits = data if isinstance(data, Splits) else Splits.open(Path(data), spec_of(model))
    _check(recipe, options, splits)
    if options.folder is not None:
        check_can_make(options.folder)
        with working_in(options.folder, "effkeras quantize"):
            return _compress(model, recipe, splits, options, options.folder)
    with tempfile.TemporaryDirectory() as folder:
        return _compress(model, recipe, splits, options, Path(folder))


def _check(recipe: Recipe, options: CompressOptions, splits: Splits) -> None:
    check(_ptq_options(recipe, options), splits.train)
    may_mix = recipe.format.needs_data and not recipe.trains_ranges
    if options.max_drop is not None and may_mix:
        check_can_mix(recipe.ptq)


def _compress(
    model: keras.Model, recipe: Recipe, splits: Splits, options: CompressOptions, folder: Path
) -> Compression:
    job = Job(
        model,
        recipe,
        _ptq_options(recipe, options),
        splits,
        Budget(options.max_drop, options.force, work=folder / "mixed"),
        Work(folder, options.settings, options.strict, options.backend, options.io, options.limit),
        lambda _: AsQuantized(options.threshold),
        beside=options.beside,
    )
    made = make(job)
    _show(made.best)
    if options.strict and options.max_drop is None:  # with a budget, layers stay in float on purpose
        made.best.quantized.check_strict(recipe.format)
    done = _compression(made)
    if made.passed:

        def seen(checked: Checked) -> Compression:
            return replace(done, passed=not checked.problems, problems=checked.problems)

        file = artifact_file(folder, recipe, options.io)
        done = seen(write(made, file, lambda checked: {"report": seen(checked).to_row()}))
    _keep(done, folder, options.trained_in)
    return done


def _show(attempt: Attempt) -> None:
    """Prints the report of the layers; the search for mixed precision has printed its own."""
    for one in attempt.quantized.before:
        one.show()
    if attempt.mixed is None:
        attempt.report.show()


def _compression(made: Made) -> Compression:
    best, decided, reported = made.best, made.best.accuracy, made.reported
    assert decided is not None  # compression always has data
    assert reported is not None
    quantized, drop = best.quantized, reported.drop
    low, high = reported.interval or (drop, drop)
    before, after = (metrics[reported.metric] for metrics in (reported.model, reported.artifact))
    return Compression(
        recipe=made.job.recipe,
        model=made.model,
        quantized=quantized,
        reports=(*made.steps, *quantized.before, best.report),
        drop=Drop(reported.metric, before, after, low, high),
        validated=best.drop,
        by_steps=made.lost_by_steps,
        passed=made.passed,
        delegated=LiteRTModel.of_bytes(best.artifact).delegated(),
        figures=_figures(made.model, quantized),
        decided_on=decided.split,
        reported_on=reported.split,
        ruined=best.ruined,
        lost=best.lost,
        agreement=reported.agreement,
        beside=made.beside,
        artifact=_file_name(made.job.recipe, made.job.ptq.io),
        io=made.job.ptq.io,
        calibrated_on=best.samples,
        images=reported.images,
        reported=reported,
    )


def _metrics_row(reported: Accuracy | None) -> dict[str, Any]:
    """All metrics, under the same keys as in rows of exports."""
    if reported is None:
        return {}
    return {
        "float_metrics": reported.model,
        "artifact_metrics": reported.artifact,
        "float_classes": dict(reported.model_classes),
        "artifact_classes": dict(reported.artifact_classes),
    }


def _ptq_options(recipe: Recipe, options: CompressOptions) -> PtqOptions:
    return PtqOptions(recipe.format, options.io, options.samples, recipe.tune.seed, recipe.ptq)


def _figures(model: keras.Model, quantized: Quantized) -> dict[str, float]:
    flatbuffer, weights = quantized.flatbuffer, sparsity_of(model)
    return {
        "bytes": len(flatbuffer),
        "gzipped_bytes": len(gzip.compress(flatbuffer, mtime=0)),
        "parameters": weights.weights,
        "sparsity": weights.share,
        "int8_macs": integer_share(operators(flatbuffer)),
    }


def _keep(made: Compression, folder: Path, trained_in: Path | None) -> None:
    """Writes the run folder: the model, its definition, its labels, its reports and the artifact's card."""
    run, spec = Run(folder), spec_of(made.model)
    save(made.model, run.model)
    write_text(run.definition, spec.to_toml())
    write_text(run.labels, "".join(f"{label}\n" for label in spec.labels))
    row = results.stamped(made.to_row())
    reports = {"result": row, "steps": [report.to_row() for report in made.reports]}
    write_text(folder / "report.json", json.dumps(reports, indent=1) + "\n")
    results.append(run.results, [row])
    data = None if trained_in is None else Run(trained_in).data
    if data is not None and data.is_file():
        write_text(run.data, data.read_text(encoding="utf-8"))
    if made.passed:
        write_card(run.artifacts / made.artifact, spec, row, folder)


def artifact_file(folder: Path, recipe: Recipe, io: IoType) -> Path:
    """The path of a recipe's artifact with inputs and outputs of this type."""
    return Run(folder).artifacts / _file_name(recipe, io)


def _file_name(recipe: Recipe, io: IoType) -> str:
    return safe_name(recipe.name, "the recipe's name") + ("" if io == "float32" else f"-{io}") + ".tflite"
