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

from effkeras.building.external import adopted
from effkeras.inference.compare import Drop
from effkeras.layers.normalize import spec_of
from effkeras.litert.costs import integer_share
from effkeras.litert.flatbuffer import operators
from effkeras.litert.runner import LiteRTModel
from effkeras.support import results
from effkeras.support.files import safe_name, write_text
from effkeras.support.measurements import Delegation
from effkeras.training.run import Run
from effkeras.training.settings import TrainSettings
from effkeras.weights.keras_files import save
from quantize import recipes
from quantize.attempts import Attempt, Budget
from quantize.checks.artifact import Checked
from quantize.driver import Job, Made, make, write
from quantize.formats import IoType
from quantize.magnitude.sparsity import sparsity_of
from quantize.post_training.artifact import Quantized
from quantize.post_training.options import SAMPLES, PtqOptions, check
from quantize.precision.mixed import KEPT
from quantize.precision.partial import check_can_mix
from quantize.recipes import Recipe
from quantize.report import StepReport
from quantize.splits import Splits
from quantize.work_folder import Trainer, Work


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
    io: IoType = "float32"
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
    test images against the model that was given, with its interval; `validated` the same drop on the
    images that decisions were made by, `by_steps` what of that the compressed Keras model loses already.
    `passed` says whether the artifact was written: `validated` is within the budget, `ruined` does not say
    that most of the metric is lost (or force was asked for), and a look at the file found no `problems`, such
    as an output that is not a number. `decided_on` and `reported_on` are the splits.
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

    def to_row(self) -> dict[str, Any]:
        """The result as a plain record, kind "compression"."""
        return {
            "kind": "compression",
            "model": spec_of(self.model).name,
            "recipe": self.recipe.to_table() | {"name": self.recipe.name},
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
            **self.delegated.to_row(),
            **self.figures,
        }


def compress(
    model: keras.Model,
    recipe: str | Path | Recipe,
    data: Path | str | Splits,
    options: CompressOptions | None = None,
) -> Compression:
    """Compresses a trained model by a recipe, and measures what that costs.

    Steps that change the model are each followed by a short training on the split train; the artifact's
    ranges are measured there too. What has to be decided is decided on val, and what is reported is measured
    on test.

    Args:
        model: a trained model; it stays untouched. One that effkeras did not build must be a classifier that
            takes RGB pixels 0..255, see `effkeras.building.external.adopt`.
        recipe: a recipe's name, such as "prune50-int8", or a TOML file.
        data: a folder of labelled images with the splits train, val and test, or those splits.
        options: budget, type of inputs and outputs, folder.

    Raises:
        EffkerasError: a recipe or data that make no sense, weights or activations that are not finite, or a
            folder that holds other work.
    """
    options = options or CompressOptions()
    recipe = recipes.find(recipe)
    model = adopted(model)
    splits = data if isinstance(data, Splits) else Splits.open(Path(data), spec_of(model))
    _check(recipe, options, splits)
    if options.folder is not None:
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
        Work(folder, options.settings, options.strict, options.backend, options.io),
    )
    made = make(job)
    _show(made.best)
    if options.strict and options.max_drop is None:  # within a budget layers are left in float on purpose
        made.best.quantized.check_strict(recipe.format)
    done = _compression(made)
    if made.passed:

        def seen(checked: Checked) -> Compression:
            return replace(done, passed=not checked.problems, problems=checked.problems)

        file = artifact_file(folder, recipe, options.io)
        done = seen(write(made, file, lambda checked: {"report": seen(checked).to_row()}))
    _keep(done, folder)
    return done


def _show(attempt: Attempt) -> None:
    """Prints what was done to the layers; a search for mixed precision has said that itself."""
    for one in attempt.quantized.before:
        one.show()
    if attempt.mixed is None:
        attempt.report.show()


def _compression(made: Made) -> Compression:
    best, decided, reported = made.best, made.best.accuracy, made.reported
    assert decided is not None  # whoever compresses has data
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
    )


def _ptq_options(recipe: Recipe, options: CompressOptions) -> PtqOptions:
    return PtqOptions(recipe.format, options.io, options.samples, recipe.tune.seed, recipe.ptq)


def _figures(model: keras.Model, quantized: Quantized) -> dict[str, float]:
    flatbuffer = quantized.flatbuffer
    return {
        "bytes": len(flatbuffer),
        "gzipped_bytes": len(gzip.compress(flatbuffer, mtime=0)),
        "parameters": model.count_params(),
        "sparsity": sparsity_of(model).share,
        "int8_macs": integer_share(operators(flatbuffer)),
    }


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


def artifact_file(folder: Path, recipe: Recipe, io: IoType) -> Path:
    """Where a recipe's artifact with inputs and outputs of this type goes."""
    name = safe_name(recipe.name, "the recipe's name") + ("" if io == "float32" else f"-{io}")
    return Run(folder).artifacts / f"{name}.tflite"
