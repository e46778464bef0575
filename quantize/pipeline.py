"""Runs a recipe on a model: step by step in a work folder, so that a rerun goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import tomli_w

from effkeras.console import note
from effkeras.errors import EffkerasError
from effkeras.files import check_can_make, make_folder, write_bytes, write_text
from effkeras.models import load, save, spec_of
from effkeras.rewrite import check_finite
from effkeras.tables import read_toml, to_table
from effkeras.training.settings import TrainSettings
from effkeras.training.tuning import TuneJob, tune
from quantize.digests import contents, fingerprint
from quantize.lessons import Lessons
from quantize.magnitude.selection import SKIPPED
from quantize.plans import Plan
from quantize.recipes import Edges
from quantize.report import Compressed, LayerReport, StepReport
from quantize.specs import ClusterSpec, PruneSpec, QatSpec
from quantize.splits import Splits
from quantize.steps import Setting, Step, steps_of
from quantize.tfmot.graph import TOOL

Wrap = Callable[[keras.Model], keras.Model]
# Does a step on a model, its work in a folder.
CarryOut = Callable[[Step, keras.Model, Path], Compressed]
Trainer = Literal["effkeras", "tfmot"]

RECIPE, SOURCE, REPORT, BEGUN = "recipe.toml", "source.json", "report.json", "begun.keras"
ARTIFACT = "model.tflite"


@dataclass(frozen=True, slots=True)
class Work:
    """How and where a recipe is carried out.

    `settings` are those the model was trained with: augmentation is kept. With `strict`, a layer that
    quantization-aware training leaves in float is an error, unless the recipe asks for that. `backend`
    "tfmot" has tensorflow-model-optimization do the steps; `io` is the type of inputs and outputs of the
    artifact that its quantization-aware training makes.
    """

    folder: Path
    settings: TrainSettings
    strict: bool = False
    backend: Trainer = "effkeras"
    io: Edges = "float32"


def run_steps(model: keras.Model, plan: Plan, splits: Splits, work: Work) -> list[Compressed]:
    """What each step of a recipe left behind, in order; the model that is given stays untouched.

    The same call again goes on after the last epoch that was finished. Raises EffkerasError for weights that
    are not finite, a folder that holds another recipe's work, with `strict` for a layer left alone, and for a
    backend that cannot do a step.
    """
    check_finite(model)
    assert splits.train is not None
    steps = steps_of(plan, Setting(model, splits.train, plan.steps.tune.seed))
    lessons = Lessons(splits.train, work.folder, splits.validation, plan.steps.tune, like=work.settings)
    if work.backend == "tfmot":
        _check_by_tfmot(model, plan, steps, work)
        carry_out = _by_tfmot(lessons, work.io)
    else:
        carry_out = _by_ourselves(_wrapper(plan, model), lessons)
    _claim(work, plan, model, lessons)
    done: list[Compressed] = []
    for number, step in enumerate(steps, start=1):
        folder = work.folder / "steps" / f"{number}-{step.name}"
        done.append(
            _finished(folder) or _carried_out(carry_out, step, done[-1].model if done else model, folder)
        )
        done[-1].report.show()
        if work.strict and step.name == "qat":
            done[-1].report.check_strict((SKIPPED,))
    return done


def _carried_out(carry_out: CarryOut, step: Step, before: keras.Model, folder: Path) -> Compressed:
    note(f"step {step.name}")
    finished = carry_out(step, before, folder)
    save(finished.model, folder / "model.keras")
    _write_report(folder / REPORT, finished.report)
    return finished


def _by_ourselves(wrap: Wrap, lessons: Lessons) -> CarryOut:
    def carry_out(step: Step, before: keras.Model, folder: Path) -> Compressed:
        begun = _begun(step, before, folder)
        job = TuneJob(
            model=begun.model,
            spec=spec_of(begun.model),
            train=lessons.train,
            validation=lessons.validation,
            settings=lessons.settings,
            out=folder,
            hooks=step.hooks(),
            wrap=wrap,
        )
        return step.finish(begun, tune(job))

    return carry_out


def _check_by_tfmot(model: keras.Model, plan: Plan, steps: list[Step], work: Work) -> None:
    """Raises EffkerasError, before any work, when tensorflow-model-optimization cannot do a step."""
    from quantize.tfmot.backend import check_tfmot

    if plan.steps.distill is not None:
        raise EffkerasError(f"{TOOL} trains without a teacher; leave out distill, or --backend")
    if plan.steps.qat is not None and work.io == "uint8":
        raise EffkerasError(f"{TOOL}'s artifacts have edges of float32 or int8; use --io int8")
    for step in steps:
        if not isinstance(step.spec, PruneSpec | ClusterSpec | QatSpec):
            raise EffkerasError(f"{TOOL} has no step {step.name}; leave out --backend")
        check_tfmot(model, step.spec)


def _by_tfmot(lessons: Lessons, io: Edges) -> CarryOut:
    """The steps by tensorflow-model-optimization."""
    from quantize.tfmot.backend import run_tfmot

    edges: Literal["float32", "int8"] = "int8" if io == "int8" else "float32"

    def carry_out(step: Step, before: keras.Model, folder: Path) -> Compressed:
        assert isinstance(step.spec, PruneSpec | ClusterSpec | QatSpec)
        made = run_tfmot(before, step.spec, replace(lessons, out=folder), edges)
        if made.flatbuffer is not None:
            write_bytes(folder / ARTIFACT, made.flatbuffer)
        return made.compressed

    return carry_out


def artifact_of_steps(folder: Path) -> bytes | None:
    """The artifact that the last step made itself, as quantization-aware training by tfmot does."""
    return next((file.read_bytes() for file in (folder / "steps").glob(f"*-qat/{ARTIFACT}")), None)


def _begun(step: Step, before: keras.Model, folder: Path) -> Compressed:
    """The changed model before its training: from the folder when an earlier run made it."""
    file, report = folder / BEGUN, folder / "begun.json"
    if file.is_file() and report.is_file():
        return Compressed(load(file), _read_report(report))
    begun = step.begin(before)
    make_folder(folder)
    save(begun.model, file)
    _write_report(report, begun.report)
    return begun


def _finished(folder: Path) -> Compressed | None:
    report = folder / REPORT
    if not report.is_file():
        return None
    note(f"step {folder.name}: done before, in {folder}")
    return Compressed(load(folder / "model.keras"), _read_report(report))


def _wrapper(plan: Plan, original: keras.Model) -> Wrap:
    if plan.steps.distill is None:
        return lambda model: model
    from quantize.distillation import teaching

    return teaching(original, plan.steps.distill)


def _claim(work: Work, plan: Plan, model: keras.Model, lessons: Lessons) -> None:
    """Makes the folder this work's, or raises EffkerasError when it holds another's."""
    folder = work.folder
    check_can_make(folder)
    table, source = plan.to_table(), _source(work, plan, model, lessons)
    recipe, origin = folder / RECIPE, folder / SOURCE
    if recipe.is_file() and read_toml(recipe) != table:
        raise EffkerasError(f"{folder} holds the work of another recipe; give another --out, or delete it")
    known = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    for what, value in source.items():
        if known.get(what, value) != value:
            raise EffkerasError(f"{folder} holds work of other {what}; give another --out, or delete it")
    make_folder(folder)
    write_text(recipe, tomli_w.dumps(table))
    write_text(origin, json.dumps(source, indent=1) + "\n")


def _source(work: Work, plan: Plan, model: keras.Model, lessons: Lessons) -> dict[str, Any]:
    """What the steps' results depend on beside the recipe, as JSON keeps it."""
    source: dict[str, Any] = {"weights": fingerprint(model), "backend": work.backend}
    if plan.trains:
        source |= {"data": contents(lessons.train), "training settings": to_table(lessons.settings)}
    if work.backend == "tfmot" and plan.steps.qat is not None:
        source["--io"] = work.io
    return json.loads(json.dumps(source))  # type: ignore[no-any-return]


def _write_report(file: Path, report: StepReport) -> None:
    write_text(file, json.dumps(report.to_row(), indent=1) + "\n")


def _read_report(file: Path) -> StepReport:
    row = json.loads(file.read_text(encoding="utf-8"))
    layers = tuple(LayerReport(**layer) for layer in row["layers"])
    return StepReport(row["step"], layers, row["error_is"], row["figures"])
