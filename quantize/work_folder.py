"""Runs the steps of a recipe in a work folder, so that a rerun resumes where it stopped."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import tomli_w

from effkeras.data.contents import contents
from effkeras.data.records import LabelledData
from effkeras.data.store import ImageStore
from effkeras.graph.rewrite import check_finite
from effkeras.layers.normalize import spec_of
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError, reading_work
from effkeras.support.files import check_can_make, make_folder, write_bytes, write_text
from effkeras.support.phases import begin_phase, skip_phase
from effkeras.support.tables import read_toml, to_table
from effkeras.training.defaults import steps_of_epoch
from effkeras.training.loop import TuneJob, tune
from effkeras.training.settings import TrainSettings
from effkeras.weights.keras_files import load, save
from quantize.accuracy import fingerprint
from quantize.formats import IoType
from quantize.recipes import Recipe
from quantize.report import Compressed, LayerReport, StepReport
from quantize.splits import Splits, StepTraining
from quantize.steps.step import TFMOT, Context, Stage, TfmotStep, Wrap
from quantize.time_limit import TimeLimit, within

# Runs a stage on a model, with its files in a folder; the number of stages that are left, itself included.
CarryOut = Callable[[Stage, keras.Model, Path, int], Compressed]
# The work of a training step on an image, and of the beginning of a step, in images through the network.
BACK_AND_FORTH, ONCE = 3, 100
Trainer = Literal["effkeras", "tfmot"]

RECIPE, SOURCE, REPORT, BEGUN = "recipe.toml", "source.json", "report.json", "begun.keras"
ARTIFACT = "model.tflite"


@dataclass(frozen=True, slots=True)
class Work:
    """How and where the steps of a recipe run.

    `settings` are the model's training settings; the steps reuse their augmentation. With `strict`, a layer
    that quantization-aware training leaves in float is an error, unless the recipe skips it. With `backend`
    "tfmot", tensorflow-model-optimization runs the steps; `io` is the input and output type of the artifact
    that its quantization-aware training makes. `limit` bounds the time of the whole command.
    """

    folder: Path
    settings: TrainSettings
    strict: bool = False
    backend: Trainer = "effkeras"
    io: IoType = "float32"
    limit: TimeLimit | None = None


def run_steps(model: keras.Model, recipe: Recipe, splits: Splits, work: Work) -> list[Compressed]:
    """Runs the stages of a recipe and returns their results in order; the model itself is not changed.

    The same call resumes after the last finished epoch. Raises EffkerasError if weights are NaN or infinite,
    the folder holds the work of another recipe, the backend does not support a step, or, with `strict`, a
    layer is skipped.
    """
    check_finite(model)
    assert splits.train is not None
    stages = stages_of(recipe, model, splits.train)
    training = StepTraining(splits.train, work.folder, splits.validation, recipe.tune, like=work.settings)
    if work.backend == "tfmot":
        _check_by_tfmot(model, recipe, stages, work)
        carry_out = _by_tfmot(training, work.io)
        if work.limit is not None:
            note(f"{TFMOT} trains all its steps, whatever --minutes says")
    else:
        carry_out = _by_ourselves(_wrapper(recipe, model), training, work.limit)
    _claim(work, recipe, model, training)
    done: list[Compressed] = []
    for number, stage in enumerate(stages, start=1):
        folder = work.folder / "steps" / f"{number}-{stage.name}"
        left, before = len(stages) - number + 1, done[-1].model if done else model
        done.append(_finished(stage, folder) or _carried_out(carry_out, stage, before, (folder, left)))
        done[-1].report.show()
        if work.strict and stage.allowed is not None:
            done[-1].report.check_strict(stage.allowed)
    return done


def stages_of(recipe: Recipe, model: keras.Model, train: LabelledData) -> list[Stage]:
    """The stages of a recipe's steps in order; none if the recipe only quantizes."""
    context = Context(model, train, recipe.tune.seed, alone=len(recipe.steps) == 1)
    return [stage for step in recipe.in_order() for stage in step.stages(context)]


def phases_of_steps(
    recipe: Recipe, model: keras.Model, splits: Splits, work: Work
) -> list[tuple[str, float]]:
    """The phases of `run_steps`, each with its work in images through the network."""
    assert splits.train is not None
    settings = StepTraining(
        splits.train, work.folder, splits.validation, recipe.tune, like=work.settings
    ).settings
    steps = settings.total_steps(steps_of_epoch(len(splits.train.records), settings.batch))
    work_of_training = steps * settings.batch * BACK_AND_FORTH
    return [
        phase
        for stage in stages_of(recipe, model, splits.train)
        for phase in ((_step_title(stage), ONCE), (_tuning_title(stage), work_of_training))
    ]


def _step_title(stage: Stage) -> str:
    return f"step {stage.name}"


def _tuning_title(stage: Stage) -> str:
    return f"tuning after {stage.name}"


def _carried_out(
    carry_out: CarryOut, stage: Stage, before: keras.Model, where: tuple[Path, int]
) -> Compressed:
    begin_phase(_step_title(stage))
    note(f"step {stage.name}")
    folder, left = where
    finished = carry_out(stage, before, folder, left)
    save(finished.model, folder / "model.keras")
    _write_report(folder / REPORT, finished.report)
    return finished


def _by_ourselves(wrap: Wrap, training: StepTraining, limit: TimeLimit | None) -> CarryOut:
    opened: ImageStore | None = None  # the training images, opened once for all stages and their timing

    def carry_out(stage: Stage, before: keras.Model, folder: Path, left: int) -> Compressed:
        nonlocal opened
        begun = _begun(stage, before, folder)
        job = TuneJob(
            model=begun.model,
            spec=spec_of(begun.model),
            train=training.train,
            validation=training.validation,
            settings=training.settings,
            out=folder,
            hooks=stage.hooks(),
            wrap=wrap,
            store=opened,
        ).with_store()
        opened = job.store
        job = within(limit, left, job)
        begin_phase(_tuning_title(stage))
        return stage.finish(begun, tune(job))

    return carry_out


def _check_by_tfmot(model: keras.Model, recipe: Recipe, stages: list[Stage], work: Work) -> None:
    """Raises EffkerasError, before any work, if tensorflow-model-optimization does not support a step."""
    from quantize.tfmot.backend import check_tfmot

    for step in recipe.in_order():
        problem = step.tfmot_problem(work.io)
        if problem:
            raise EffkerasError(f"{TFMOT} {problem}")
    for stage in stages:
        check_tfmot(model, _step_of(stage))


def _step_of(stage: Stage) -> TfmotStep[Any]:
    assert stage.by_tfmot is not None  # other steps have a tfmot_problem
    return stage.by_tfmot


def _by_tfmot(training: StepTraining, io: IoType) -> CarryOut:
    """Runs stages with tensorflow-model-optimization."""
    from quantize.tfmot.backend import run_tfmot

    artifact_io: Literal["float32", "int8"] = "int8" if io == "int8" else "float32"

    def carry_out(stage: Stage, before: keras.Model, folder: Path, left: int) -> Compressed:
        made = run_tfmot(before, _step_of(stage), replace(training, out=folder), artifact_io)
        if made.flatbuffer is not None:
            write_bytes(folder / ARTIFACT, made.flatbuffer)
        return made.compressed

    return carry_out


def artifact_of_steps(folder: Path) -> bytes | None:
    """The artifact that a step itself made, as quantization-aware training with tfmot does; else None."""
    return next((file.read_bytes() for file in (folder / "steps").glob(f"*/{ARTIFACT}")), None)


def _begun(stage: Stage, before: keras.Model, folder: Path) -> Compressed:
    """The result of `begin`, before training; read from the folder if an earlier run made it."""
    file, report = folder / BEGUN, folder / "begun.json"
    if file.is_file() and report.is_file():
        return _read(file, report, f"the step {stage.name} begins again")
    begun = stage.begin(before)
    make_folder(folder)
    save(begun.model, file)
    _write_report(report, begun.report)
    return begun


def _finished(stage: Stage, folder: Path) -> Compressed | None:
    report, model = folder / REPORT, folder / "model.keras"
    if not (report.is_file() and model.is_file()):
        return None
    skip_phase(_step_title(stage))
    skip_phase(_tuning_title(stage))
    note(f"step {folder.name}: done before, in {folder}")
    return _read(model, report, f"the step {stage.name} is finished again from its checkpoint")


def _wrapper(recipe: Recipe, original: keras.Model) -> Wrap:
    """The function that wraps the model in all training."""
    wraps = [wrap for step in recipe.in_order() if (wrap := step.wrap(original)) is not None]
    return lambda model: functools.reduce(lambda inner, wrap: wrap(inner), wraps, model)


def _claim(work: Work, recipe: Recipe, model: keras.Model, training: StepTraining) -> None:
    """Records the recipe and its inputs in the folder; EffkerasError if the folder holds other work."""
    folder = work.folder
    check_can_make(folder)
    table, source = recipe.to_table(), _source(work, recipe, model, training)
    kept, origin = folder / RECIPE, folder / SOURCE
    anew = "it is written anew, as if the folder held the work of this command"
    with reading_work(kept, anew):
        before = read_toml(kept) if kept.is_file() else table
    if before != table:
        raise EffkerasError(f"{folder} holds the work of another recipe; give another --out, or delete it")
    with reading_work(origin, anew):
        known = dict(json.loads(origin.read_text(encoding="utf-8"))) if origin.is_file() else {}
    for what, value in source.items():
        if known.get(what, value) != value:
            raise EffkerasError(f"{folder} holds work of other {what}; give another --out, or delete it")
    make_folder(folder)
    write_text(kept, tomli_w.dumps(table))
    write_text(origin, json.dumps(source, indent=1) + "\n")


def _source(work: Work, recipe: Recipe, model: keras.Model, training: StepTraining) -> dict[str, Any]:
    """Everything besides the recipe that the steps' results depend on, as JSON values."""
    source: dict[str, Any] = {"weights": fingerprint(model), "backend": work.backend}
    if recipe.trains:
        source |= {"data": contents(training.train), "training settings": to_table(training.settings)}
    if work.backend == "tfmot" and recipe.trains_ranges:
        source["--io"] = work.io
    return json.loads(json.dumps(source))  # type: ignore[no-any-return]


def _write_report(file: Path, report: StepReport) -> None:
    write_text(file, json.dumps(report.to_row(), indent=1) + "\n")


def _read(model: Path, report: Path, cost: str) -> Compressed:
    """The model and the report of a step that an earlier run wrote."""
    with reading_work(report, cost):
        row = json.loads(report.read_text(encoding="utf-8"))
        layers = tuple(LayerReport(**layer) for layer in row["layers"])
        read = StepReport(row["step"], layers, row["error_is"], row["figures"])
    with reading_work(model, cost):
        return Compressed(load(model), read)
