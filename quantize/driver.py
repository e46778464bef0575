"""From a trained model and a recipe to an artifact: the driver of `quantize` and `export tflite`.

It runs the steps of the recipe, quantizes the result within a budget measured on the split val, and finishes
the artifact for a consumer. It reports the drop on the split test, with an interval. It reads the file back,
runs it and compares it with the model before the file gets its final name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.layers.fake_quant import is_fake_quantized
from effkeras.layers.normalize import spec_of
from effkeras.support import results
from effkeras.support.console import note
from quantize.accuracy import Accuracy
from quantize.attempts import AsQuantized, Attempt, Attempts, Budget, Finishing
from quantize.checks import Checked, Reference, write_checked
from quantize.comparison import images_of
from quantize.post_training.artifact import FloatParts
from quantize.post_training.options import PtqOptions, check_trained
from quantize.post_training.quantization import float_parts
from quantize.recipes import Recipe
from quantize.report import StepReport
from quantize.splits import Splits
from quantize.work_folder import Work, artifact_of_steps, run_steps

if TYPE_CHECKING:
    import keras

    from effkeras.definitions.definition import ModelSpec


def as_quantized(_: ModelSpec) -> Finishing:
    """The finishing of `--for raw`."""
    return AsQuantized()


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """The input of the driver.

    `work` tells how and where the steps of the recipe run; None for a recipe without steps. `finishing`
    returns the consumer's finishing for a definition's networks.
    """

    model: keras.Model
    recipe: Recipe
    ptq: PtqOptions
    splits: Splits
    budget: Budget
    work: Work | None = None
    finishing: Callable[[ModelSpec], Finishing] = as_quantized


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """The result of the driver, before it is written.

    `model` is the result of the steps, `steps` holds a report of each. `finishing` is the consumer's for that
    model. The artifact was quantized from `source`. `best` is the attempt with the smallest drop, `reported`
    its accuracy on the test split, `lost_by_steps` the part of the drop on the validation split that the
    steps cause. `remedies` lists what was tried against too large a drop.
    """

    job: Job
    model: keras.Model
    steps: tuple[StepReport, ...]
    finishing: Finishing
    source: FloatParts | bytes
    best: Attempt
    reported: Accuracy | None
    lost_by_steps: float
    remedies: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the artifact may be written."""
        return self.best.passes(self.job.budget)

    def reference(self) -> Reference:
        """The model and images that the artifact is compared with."""
        shown = images_of(spec_of(self.model).input, self.job.splits.validation)
        return Reference(self.model, shown, self.job.recipe.format.name, self.finishing.decoder)


def make(job: Job) -> Made:
    """Runs a recipe up to the artifact; only the steps write files, in their work folder.

    Raises EffkerasError as `run_steps` and `quantize.ptq` do.
    """
    steps = run_steps(job.model, job.recipe, job.splits, job.work) if job.work else []
    model = steps[-1].model if steps else job.model
    source = _source(model, job)
    finishing = job.finishing(spec_of(model))
    attempts = Attempts(job.model, model, source, job.budget, job.splits, finishing)
    tried = list(attempts.run(job.ptq))
    best = min(tried, key=lambda attempt: attempt.drop)  # the first of equals
    return Made(
        job=job,
        model=model,
        steps=tuple(one.report for one in steps),
        finishing=finishing,
        source=source,
        best=best,
        reported=attempts.reported(best),
        lost_by_steps=attempts.lost_by_steps(),
        remedies=attempts.remedies(tried, job.ptq),
    )


def write(made: Made, file: Path, record: Callable[[Checked], dict[str, Any]]) -> Checked:
    """Writes the artifact and a .json beside it, unless the check of the file finds problems.

    `record` returns the entries of the .json other than the recipe; "report" holds the row of the report.
    """

    def beside(checked: Checked) -> str:
        entries = record(checked)
        stamped = {"report": results.stamped(entries["report"])}
        return json.dumps({"recipe": made.job.recipe.to_table(), **entries, **stamped}, indent=2) + "\n"

    return write_checked(file, made.best.artifact, made.reference(), beside)


def _source(model: keras.Model, job: Job) -> FloatParts | bytes:
    given = artifact_of_steps(job.work.folder) if job.work else None
    if given is not None:
        return given
    note("converting")
    if is_fake_quantized(model):
        check_trained(job.ptq)
    return float_parts(model, job.ptq, job.splits.train)
