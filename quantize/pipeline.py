"""Runs a recipe on a model: step by step in a work folder, so that a rerun goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tomli_w

from effkeras.console import note
from effkeras.errors import EffkerasError
from effkeras.files import check_can_make, make_folder, write_text
from effkeras.models import load, save, spec_of
from effkeras.rewrite import check_finite
from effkeras.tables import read_toml
from effkeras.training.settings import TrainSettings
from effkeras.training.tuning import TuneJob, tune
from quantize.plans import Plan
from quantize.report import Compressed, LayerReport, StepReport
from quantize.selection import SKIPPED
from quantize.splits import Splits
from quantize.steps import Setting, Step, steps_of

Wrap = Callable[[keras.Model], keras.Model]

RECIPE, SOURCE, REPORT, BEGUN = "recipe.toml", "source.json", "report.json", "begun.keras"


@dataclass(frozen=True, slots=True)
class Work:
    """How and where a recipe is carried out.

    `settings` are those the model was trained with: augmentation is kept. With `strict`, a layer that
    quantization-aware training leaves in float is an error, unless the recipe asks for that.
    """

    folder: Path
    settings: TrainSettings
    strict: bool = False


def run_steps(model: keras.Model, plan: Plan, splits: Splits, work: Work) -> list[Compressed]:
    """What each step of a recipe left behind, in order; the model that is given stays untouched.

    The same call again goes on after the last epoch that was finished. Raises EffkerasError for weights that
    are not finite, a folder that holds another recipe's work, and with `strict` for a layer left alone.
    """
    check_finite(model)
    _claim(work.folder, plan, model)
    wrap = _wrapper(plan, model)
    done: list[Compressed] = []
    for number, step in enumerate(steps_of(plan, Setting(splits, plan.steps.tune.seed)), start=1):
        before = done[-1].model if done else model
        folder = work.folder / "steps" / f"{number}-{step.name}"
        job = partial(_job, plan, splits, replace(work, folder=folder), wrap)
        done.append(_finished(folder) or _run(step, before, folder, job))
        done[-1].report.show()
        if work.strict and step.name == "qat":
            done[-1].report.check_strict((SKIPPED,))
    return done


def _run(
    step: Step, before: keras.Model, folder: Path, job: Callable[[Step, keras.Model], TuneJob]
) -> Compressed:
    note(f"step {step.name}")
    begun = _begun(step, before, folder)
    finished = step.finish(begun, tune(job(step, begun.model)))
    save(finished.model, folder / "model.keras")
    _write_report(folder / REPORT, finished.report)
    return finished


def _job(plan: Plan, splits: Splits, work: Work, wrap: Wrap, step: Step, model: keras.Model) -> TuneJob:
    return TuneJob(
        model=model,
        spec=spec_of(model),
        train=splits.train,
        validation=splits.validation,
        settings=plan.steps.tune.settings(work.settings),
        out=work.folder,
        hooks=step.hooks(),
        wrap=wrap,
    )


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


def _claim(folder: Path, plan: Plan, model: keras.Model) -> None:
    """Makes the folder this recipe's and this model's, or raises EffkerasError when it is another's."""
    check_can_make(folder)
    table, source = plan.to_table(), {"weights": fingerprint(model)}
    recipe, origin = folder / RECIPE, folder / SOURCE
    if recipe.is_file() and read_toml(recipe) != table:
        raise EffkerasError(f"{folder} holds the work of another recipe; give another --out, or delete it")
    if origin.is_file() and json.loads(origin.read_text(encoding="utf-8")) != source:
        raise EffkerasError(f"{folder} holds the work on another model; give another --out, or delete it")
    make_folder(folder)
    write_text(recipe, tomli_w.dumps(table))
    write_text(origin, json.dumps(source) + "\n")


def fingerprint(model: keras.Model) -> str:
    """A digest of all weights."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _write_report(file: Path, report: StepReport) -> None:
    write_text(file, json.dumps(report.to_row(), indent=1) + "\n")


def _read_report(file: Path) -> StepReport:
    row = json.loads(file.read_text(encoding="utf-8"))
    layers = tuple(LayerReport(**layer) for layer in row["layers"])
    return StepReport(row["step"], layers, row["error_is"], row["figures"])
