"""The options of `effkeras search` as a job, and what is checked and noted before it starts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.support.console import note
from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    from effkeras.data.classes import Classes
    from effkeras.data.records import LabelledData
    from effkeras.search.evaluation.evaluators import Evaluation
    from effkeras.search.evaluation.settings import EvaluationData
    from effkeras.search.objectives import Objective
    from effkeras.search.spaces.reading import ModelSpace
    from effkeras.search.trials.job import SearchJob

_EVALUATION = ("epochs", "batch", "learning_rate", "patience", "train_images", "validation_images")
# Costs computed from a definition; limits on them are checked before any training.
_COUNTED = ("parameters", "macs", "table:")
# Random draws to estimate the number of networks in a space: under a second, accurate to a few per cent.
_DRAWS = 2000


def job_of(chosen: argparse.Namespace) -> SearchJob:
    """The search that the options describe; EffkerasError for invalid options or data."""
    from effkeras.data.classes import classes_for
    from effkeras.data.contents import Contents
    from effkeras.search.spaces.reading import read_space
    from effkeras.search.trials.job import NamedStrategy, SearchJob, check_job

    objective = _objective(chosen)
    space = read_space(chosen.space)
    data = _train(chosen, space)
    classes = classes_for(space.base, data)
    evaluation = _evaluation(chosen, objective, space)
    _check_tables(evaluation, classes)
    job = SearchJob(
        space=space,
        strategy=NamedStrategy(_strategy(chosen), _pairs(chosen.option, _value)),
        objective=objective,
        evaluation=evaluation,
        trials=chosen.trials,
        out=chosen.out,
        seed=chosen.seed,
        pruner=chosen.pruner,
        classes=classes,
        data=Contents.of(data),
    )
    _note_target(objective, evaluation, classes)
    job = _once_each(_limited(job, objective, evaluation))
    check_job(job)
    _note_timing(chosen, evaluation)
    return job


def classes_in(chosen: argparse.Namespace, space: ModelSpace) -> Classes:
    """The classes of the data that the options name; EffkerasError if they do not fit the space."""
    from effkeras.data.classes import classes_for

    return classes_for(space.base, _train(chosen, space))


def _train(chosen: argparse.Namespace, space: ModelSpace) -> LabelledData:
    from effkeras.data.splits import find_split, read_split

    split = find_split(chosen.data, "train") or "train"
    return read_split(chosen.data, split, _data(chosen).options(masks=space.base.segments))


def _objective(chosen: argparse.Namespace) -> Objective:
    from effkeras.search.evaluation.settings import located
    from effkeras.search.objectives import Objective

    kind: Any = chosen.objective or ("accuracy" if chosen.target is None else "mnas")
    limits = {located(name, Path()): most for name, most in _pairs(chosen.constraint, float).items()}
    return Objective(kind, located(chosen.cost, Path()), chosen.target, chosen.exponent, limits)


def _strategy(chosen: argparse.Namespace) -> str:
    return chosen.strategy or ("nsga2" if chosen.objective == "pareto" else "evolution")


def _note_target(objective: Objective, evaluation: Evaluation, classes: Classes) -> None:
    """Prints a note if no network is found that meets the target."""
    from effkeras.search.evaluation.costs import LimitedSpace, cheapest

    name, target = objective.cost, objective.target
    if target is None or not name.startswith(_COUNTED):
        return
    within = LimitedSpace(evaluation.space, {name: target}, classes, evaluation.settings.artifact)
    lowest = within.costs(cheapest(within))[name]
    if lowest > target:
        note(f"the cheapest network found has {name} {lowest:,.10g}, over the target of {target:,.10g}")


def _limited(job: SearchJob, objective: Objective, evaluation: Evaluation) -> SearchJob:
    """The job, with the genomes that are known to exceed a limit removed from its space."""
    from effkeras.search.evaluation.costs import LimitedSpace, check_limits

    limits = {name: most for name, most in objective.limits.items() if name.startswith(_COUNTED)}
    if not limits:
        return job
    note("looking for networks within the limits")
    limited = LimitedSpace(evaluation.space, limits, job.classes, evaluation.settings.artifact)
    return replace(job, space=check_limits(limited))


def _once_each(job: SearchJob) -> SearchJob:
    """The job; a grid search tries each network once, so it gets at most as many trials as networks."""
    from effkeras.search.genomes import count

    if job.strategy.name != "grid":
        return job
    found = count(job.space, _DRAWS)
    return replace(job, trials=min(job.trials, found.networks)) if found.exact else job


def _note_timing(chosen: argparse.Namespace, evaluation: Evaluation) -> None:
    shares = chosen.ray is not None or (chosen.workers or 1) > 1
    if shares and "latency_ms" in evaluation.settings.costs:
        note(
            "latency_ms is timed while other workers train on the same cores, and comes out too long: rather "
            "--workers 1, or --cost table:FILE with what `effkeras search table` writes"
        )


def _check_tables(evaluation: Evaluation, classes: Classes) -> None:
    """Raises EffkerasError for a table that is unreadable, or that lacks blocks of a network of the space."""
    import numpy as np

    from effkeras.search.evaluation.costs import cost_of
    from effkeras.search.genomes import sample

    settings, space = evaluation.settings, evaluation.space
    tables = [name for name in settings.costs if name.startswith("table:")]
    if tables:
        spec = space.spec(sample(space, np.random.default_rng(0)))
        cost_of(classes.given_to(spec), tables, settings.artifact)


def _evaluation(chosen: argparse.Namespace, objective: Objective, space: ModelSpace) -> Evaluation:
    from effkeras.search.evaluation.evaluators import Evaluation
    from effkeras.search.evaluation.settings import (
        REMOVED_KEYS,
        EvaluationSettings,
        checked,
        located,
    )
    from effkeras.support.tables import read_toml, to_record

    table = read_toml(chosen.config) if chosen.config else {}
    for name in REMOVED_KEYS:
        if table.pop(name, None) is not None:
            note(f"{chosen.config}: {name} has no meaning any more and is ignored; remove the line")
    table |= {name: getattr(chosen, name) for name in _EVALUATION if getattr(chosen, name) is not None}
    table |= {"kind": chosen.evaluation} if chosen.evaluation else {}
    settings = to_record(EvaluationSettings, table, str(chosen.config or "options of the evaluation"))
    beside = chosen.config.parent if chosen.config else Path()
    costs = [*(located(name, beside) for name in settings.costs), objective.cost, *objective.costs]
    settings = checked(replace(settings, costs=tuple(costs)))
    return Evaluation(settings, _data(chosen), space)


def _data(chosen: argparse.Namespace) -> EvaluationData:
    from effkeras.search.evaluation.settings import EvaluationData

    return EvaluationData(chosen.data.absolute(), chosen.skip_bad, chosen.one_based)


def size_of(job: SearchJob) -> str:
    """The number of networks in the space, without regard to limits."""
    from effkeras.search.genomes import count
    from effkeras.search.trials.job import space_name

    found = count(getattr(job.space, "space", job.space), _DRAWS)
    about = f"about {found.networks:.1e}".replace("e+", "e") if found.networks else "very few"
    return f"{space_name(job.space)} has {f'{found.networks:,}' if found.exact else about} networks"


def _pairs(given: Sequence[str], convert: Callable[[str], Any]) -> dict[str, Any]:
    """Parses NAME=VALUE options into a dict."""
    table = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        try:
            table[name] = convert(value)
        except ValueError as error:
            raise EffkerasError(f"{pair!r} should be NAME=NUMBER, as in macs=3e6") from error
        if not equals:
            raise EffkerasError(f"{pair!r} should be NAME=VALUE")
    return table


def _value(text: str) -> str | int | float | bool:
    """Parses an option's value: a number, true or false, otherwise a string."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
