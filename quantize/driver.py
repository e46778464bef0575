"""From a trained model and a recipe to an artifact: the driver of `quantize` and `export tflite`.

It runs the steps of the recipe, quantizes the result within a budget measured on the split val, and finishes
the artifact for a consumer. It reports the drop on the split test, with an interval. It reads the file back,
runs it and compares it with the model before the file gets its final name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.layers.fake_quant import is_fake_quantized
from effkeras.layers.normalize import spec_of
from effkeras.support import results
from effkeras.support.console import note, warn
from effkeras.support.errors import EffkerasError
from effkeras.support.phases import begin_phase, phases
from quantize.acceptance import MeasuredOn
from quantize.accuracy import MEASURING, Accuracy
from quantize.attempts import PLAIN_QUANTIZING, QUANTIZING, AsQuantized, Attempt, Attempts, Budget, Finishing
from quantize.beside import (
    PLAIN,
    Beside,
    few_images,
    float_row,
    is_plain_int8,
    plain_format,
    row_of,
    slow_int4,
    wants_plain_int8,
    worse_than_plain,
)
from quantize.checks import Checked, Reference, write_checked
from quantize.comparison import images_of
from quantize.post_training.artifact import FloatParts
from quantize.post_training.options import PtqOptions, check_trained
from quantize.post_training.quantization import float_parts
from quantize.recipes import Recipe
from quantize.report import StepReport
from quantize.specs import PtqSpec
from quantize.splits import Splits
from quantize.work_folder import Work, artifact_of_steps, phases_of_steps, run_steps

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData
    from effkeras.definitions.definition import ModelSpec


# The phases other than those of steps, attempts and measurements; converting takes as long as so many images.
CONVERTING, PLAIN_CONVERTING, CONVERSION = "converting", "converting the model", 200


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """The input of the driver.

    `work` tells how and where the steps of the recipe run; None for a recipe without steps. `finishing`
    returns the consumer's finishing for a definition's networks. With `beside`, plain int8 of the same model
    is made and measured too.
    """

    model: keras.Model
    recipe: Recipe
    ptq: PtqOptions
    splits: Splits
    budget: Budget
    work: Work | None = None
    finishing: Callable[[ModelSpec], Finishing] = lambda _: AsQuantized()
    beside: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """The result of the driver, before it is written.

    `model` is the result of the steps, `steps` holds a report of each. `finishing` is the consumer's for that
    model. The artifact was quantized from `source`. `best` is the attempt with the smallest drop, `reported`
    its accuracy on the test split, `lost_by_steps` the part of the drop on the validation split that the
    steps cause. `remedies` lists what was tried against too large a drop. `beside` compares it with float32
    and plain int8; None if that was not asked for, or nothing was measured.
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
    beside: Beside | None = None

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
    with phases(_planned(job)):
        return _make(job)


def _make(job: Job) -> Made:
    _say_before(job)
    steps = run_steps(job.model, job.recipe, job.splits, limited(job.work, job)) if job.work else []
    model = steps[-1].model if steps else job.model
    source = _source(model, job)
    finishing = job.finishing(spec_of(model))
    attempts = Attempts(job.model, model, source, job.budget, job.splits, finishing)
    tried = list(attempts.run(job.ptq))
    best = min(tried, key=lambda attempt: attempt.drop)  # the first of equals
    reported = attempts.reported(best)
    return Made(
        job=job,
        model=model,
        steps=tuple(one.report for one in steps),
        finishing=finishing,
        source=source,
        best=best,
        reported=reported,
        lost_by_steps=attempts.lost_by_steps(),
        remedies=attempts.remedies(tried, job.ptq),
        beside=_beside(job, attempts, tried, (best, reported)) if job.beside and reported else None,
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


def _planned(job: Job) -> list[tuple[str, float]]:
    """The phases of `make`, each with its work in images through the network."""
    splits, recipe = job.splits, job.recipe
    steps = phases_of_steps(recipe, job.model, splits, job.work) if job.work and recipe.trains else []
    return [*steps, *_after_steps(job)]


def _after_steps(job: Job) -> list[tuple[str, float]]:
    splits, recipe = job.splits, job.recipe
    val, test = (_measured_images(data, job.budget) for data in (splits.validation, splits.test))
    on_val, on_test = ((data.split if data is not None else "") for data in (splits.validation, splits.test))
    measure_again = splits.test is not splits.validation
    return [
        (CONVERTING, CONVERSION),
        (QUANTIZING, CONVERSION + job.ptq.samples),
        (MEASURING.format("model", on_val), val),
        (MEASURING.format("artifact", on_val), val),
        *([(MEASURING.format("artifact", on_test), test)] if measure_again else []),
        *([(MEASURING.format("model", on_test), test)] if measure_again else []),
        *([(MEASURING.format("model", on_val), val)] if recipe.trains else []),
        *(_plain_phases(job, on_test, test) if job.beside else []),
    ]


def limited(work: Work, job: Job) -> Work:
    """The work, whose time limit knows what follows the steps."""
    if work.limit is None:
        return work
    images = sum(amount for _, amount in _after_steps(job))
    return replace(work, limit=replace(work.limit, images=images))


def _plain_phases(job: Job, split: str, images: int) -> list[tuple[str, float]]:
    if is_plain_int8(job.recipe, job.ptq.spec) or not wants_plain_int8(job.recipe):
        return []
    return [
        (PLAIN_CONVERTING, CONVERSION),
        (PLAIN_QUANTIZING, CONVERSION + job.ptq.samples),
        (MEASURING.format("artifact", split), images),
    ]


def _measured_images(data: LabelledData | None, budget: Budget) -> int:
    return 0 if data is None else len(data.records[: budget.limit])


def _say_before(job: Job) -> None:
    """Notes on the recipe before any work."""
    convolves = any(len(weight.shape) == 4 for weight in job.model.weights)
    few = few_images(job.recipe, job.splits.train) if job.splits.train is not None else ""
    for line in (few, slow_int4(job.recipe, convolves)):
        if line:
            note(line)


def _beside(
    job: Job, attempts: Attempts, tried: Sequence[Attempt], result: tuple[Attempt, Accuracy]
) -> Beside:
    """The result beside float32 and plain int8, on the test split."""
    (best, accuracy), plain, size = result, None, 0
    if is_plain_int8(job.recipe, job.ptq.spec) and isinstance(attempts.source, FloatParts):
        plain, size = tried[0], len(attempts.source.flatbuffer)
    elif job.splits.train is not None and wants_plain_int8(job.recipe):
        plain, size = _plain_int8(job, attempts)
    rows = [float_row(size, accuracy)] if size else []
    of_plain = None if plain is None or plain is best else attempts.reported(plain)
    last, worse = row_of(job.recipe.name, len(best.artifact), accuracy), ""
    if plain is not None and of_plain is not None:
        rows.append(row_of(PLAIN, len(plain.artifact), of_plain))
        worse = worse_than_plain(job.recipe.name, rows[-1], last, attempts.between(plain, best))
    measured_on = str(MeasuredOn(accuracy.split, accuracy.images))
    return Beside(accuracy.metric, measured_on, (*rows, last), worse)


def _plain_int8(job: Job, attempts: Attempts) -> tuple[Attempt | None, int]:
    """Plain int8 of the original model, and the size of its float conversion; None if it cannot be made."""
    ptq = replace(job.ptq, format=plain_format(), spec=PtqSpec())
    begin_phase(PLAIN_CONVERTING)
    note("plain int8 of the same model, to compare with")
    try:
        parts = float_parts(job.model, ptq, job.splits.train)
        return attempts.beside(parts, job.finishing(spec_of(job.model)), ptq), len(parts.flatbuffer)
    except EffkerasError as error:
        warn(f"plain int8 cannot be made: {error}")
        return None, 0


def _source(model: keras.Model, job: Job) -> FloatParts | bytes:
    given = artifact_of_steps(job.work.folder) if job.work else None
    if given is not None:
        return given
    begin_phase(CONVERTING)
    note("converting")
    if is_fake_quantized(model):
        check_trained(job.ptq)
    return float_parts(model, job.ptq, job.splits.train)
