"""The one way from a trained model and a recipe to an artifact: what `quantize` and `export tflite` do.

The steps of the recipe come first, then an artifact of what they leave, within a budget decided on the
split val, and what a consumer wants around it. Its loss is reported on the split test, with an interval. The
file is read back, run and compared with the model before it gets its name.
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
from quantize.checks.artifact import Checked, Reference, write_checked
from quantize.checks.images import images_of
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
    """The finishing for no consumer in particular."""
    return AsQuantized()


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """What is to be made of a trained model.

    `work` says how and where the steps of the recipe are done; None for a recipe without any. `finishing`
    gives what the consumer makes of the networks of a definition.
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
    """What the driver made, before it is written.

    `model` is what the steps left, with a report from each in `steps`. `source` is what the artifact was
    quantized from. `best` is the attempt that loses least, `reported` what it loses on the split test,
    `lost_by_steps` what of the drop that decides the model of the steps loses already. `remedies` says what
    was tried against too large a drop.
    """

    job: Job
    model: keras.Model
    steps: tuple[StepReport, ...]
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
        """What the artifact is compared with."""
        spec, job = spec_of(self.model), self.job
        shown = images_of(spec.input, job.splits.validation)
        return Reference(self.model, shown, job.recipe.format.name, job.finishing(spec).decoder)


def make(job: Job) -> Made:
    """Carries out a recipe up to the artifact; nothing but the work of its steps is written.

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
        source=source,
        best=best,
        reported=attempts.reported(best),
        lost_by_steps=attempts.lost_by_steps(),
        remedies=attempts.remedies(tried, job.ptq),
    )


def write(made: Made, file: Path, record: Callable[[Checked], dict[str, Any]]) -> Checked:
    """Writes the artifact and a .json beside it, unless a look at the file finds problems.

    `record` gives what the .json says beside the recipe: the row of the report under "report", and more.
    """

    def beside(checked: Checked) -> str:
        said = record(checked)
        said = {"recipe": made.job.recipe.to_table(), **said, "report": results.stamped(said["report"])}
        return json.dumps(said, indent=2) + "\n"

    return write_checked(file, made.best.artifact, made.reference(), beside)


def _source(model: keras.Model, job: Job) -> FloatParts | bytes:
    given = artifact_of_steps(job.work.folder) if job.work else None
    if given is not None:
        return given
    note("converting")
    if is_fake_quantized(model):
        check_trained(job.ptq)
    return float_parts(model, job.ptq, job.splits.train)
