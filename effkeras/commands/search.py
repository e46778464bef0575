"""`effkeras search SPACE --data DIR --trials N --out DIR`: searches for a network; resumes if repeated."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.support.console import facts, note, run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, above_zero, add_data, add_old_name, explained, parser

if TYPE_CHECKING:
    from effkeras.data.classes import Classes
    from effkeras.search.evaluation.evaluators import Evaluation
    from effkeras.search.evaluation.settings import EvaluationData
    from effkeras.search.objectives import Objective
    from effkeras.search.run import Status
    from effkeras.search.spaces.reading import ModelSpace
    from effkeras.search.trials.job import SearchJob
    from effkeras.search.trials.workers import WorkerPool

_EVALUATION = ("epochs", "batch", "learning_rate", "patience", "train_images", "validation_images")
# Costs computed from a definition; limits on them are checked before any training.
_COUNTED = ("parameters", "macs", "table:")
# Random draws to estimate the number of networks in a space: under a second, accurate to a few per cent.
_DRAWS = 2000
_WORDS = 19  # width in characters of the names that --help lists
_OBJECTIVES = ["accuracy", "mnas", "mnas-hard", "abs", "pareto"]


VERB = Verb("search", "find a network for labelled images and a limit")


def main(argv: Sequence[str] | None = None) -> int:
    """Starts or resumes a search."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--demo" in words:
        demo = importlib.import_module("export.benchmarks.search_demo")  # export depends on effkeras
        return int(demo.main([word for word in words if word != "--demo"]))
    return run_command(lambda: _run(words), resumes=True)


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    job = job_of(chosen)
    pool = _pool(chosen)
    from effkeras.search.run import Display, search

    note(_size_of(job))
    made_by = f"{job.strategy.name}, {_workers(chosen)}"
    note(f"{job.trials:,} trials with {made_by}; everything is kept in {job.out}")
    try:
        with Display(job.objective.cost) as display:
            status = search(job, pool, display)
    except KeyboardInterrupt:
        note(f"stopped; finished trials are kept in {job.out}")
        raise
    return _conclude(job, status, chosen.data)


def job_of(chosen: argparse.Namespace) -> SearchJob:
    """The search that the options describe; EffkerasError for invalid options or data."""
    from effkeras.search.spaces.reading import read_space
    from effkeras.search.trials.job import NamedStrategy, SearchJob, check_job

    objective = _objective(chosen)
    space = read_space(chosen.space)
    classes = classes_in(chosen, space)
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
    )
    _note_target(objective, evaluation, classes)
    job = _once_each(_limited(job, objective, evaluation))
    check_job(job)
    _note_timing(chosen, evaluation)
    return job


def classes_in(chosen: argparse.Namespace, space: ModelSpace) -> Classes:
    """The classes of the data that the options name; EffkerasError if they do not fit the space."""
    from effkeras.data.classes import classes_for
    from effkeras.data.splits import find_split, read_split

    split = find_split(chosen.data, "train") or "train"
    data = read_split(chosen.data, split, _data(chosen).options(masks=space.base.segments))
    return classes_for(space.base, data)


def _objective(chosen: argparse.Namespace) -> Objective:
    from effkeras.search.evaluation.settings import located
    from effkeras.search.objectives import Objective

    kind: Any = chosen.objective or ("accuracy" if chosen.target is None else "mnas")
    limits = {located(name, Path()): most for name, most in _pairs(chosen.limit, float).items()}
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


def _pool(chosen: argparse.Namespace) -> WorkerPool:
    if chosen.ray is not None:
        from effkeras.search.trials.cluster import Cluster

        return Cluster(chosen.ray, chosen.workers)
    from effkeras.search.trials.processes import Processes

    return Processes(chosen.workers or 1)


def _size_of(job: SearchJob) -> str:
    """The number of networks in the space, without regard to limits."""
    from effkeras.search.genomes import count
    from effkeras.search.trials.job import space_name

    found = count(getattr(job.space, "space", job.space), _DRAWS)
    about = f"about {found.networks:.1e}".replace("e+", "e") if found.networks else "very few"
    return f"{space_name(job.space)} has {f'{found.networks:,}' if found.exact else about} networks"


def _workers(chosen: argparse.Namespace) -> str:
    count = chosen.workers or (0 if chosen.ray is not None else 1)
    many = f"{count or 'all possible'} worker{'' if count == 1 else 's'}"
    return f"{many} on the Ray cluster {chosen.ray}" if chosen.ray is not None else many


def _conclude(job: SearchJob, status: Status, data: Path) -> int:
    """Prints the result and the next command; returns 1 if no candidate succeeded."""
    from effkeras.search.genomes import chosen
    from effkeras.search.run import short_amount
    from effkeras.search.trials.records import Result

    print(f"{status.finished} candidates, {status.failed} failed, {status.repeats} repeats: {status.ending}")
    if status.best is None:
        print(f"no candidate succeeded, most often for: {status.reason}; see {job.out / 'logs'}")
        return 1
    result = status.best.result or Result()
    rows = [("reward", f"{result.reward:.4f}"), ("accuracy", f"{result.accuracy:.4f}")]
    rows += [(name, short_amount(value)) for name, value in result.costs.items()]
    rows += [(name, str(choice)) for name, choice in chosen(job.space, status.best.genome).items()]
    facts(f"the best, trial {status.best.number}", rows)
    best = job.out / "best.toml"
    if job.is_front:
        count = len(list((job.out / "front").glob("*.toml")))
        what = f"definition{'' if count == 1 else 's'}, the front of accuracy and {job.objective.cost}"
        print(f"{job.out / 'front'}: {count} {what}")
    print(f"{best}: next: effkeras train {best} --data {data} --out RUN")
    print(f"to look at the search: effkeras search report {job.out}")
    return 0


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


def _listed() -> str:
    """Help text with the included spaces and the strategies."""
    from effkeras.search.spaces.reading import space_summaries
    from effkeras.search.strategies.strategy import strategy_summaries

    lines = []
    for title, table in (("spaces", space_summaries()), ("strategies", strategy_summaries())):
        lines += ["", f"{title}:", *(explained(name, about, _WORDS) for name, about in table.items())]
    return "\n".join(lines[1:])


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Searches a network for labelled images. The same command again resumes.")
    options.formatter_class, options.epilog = argparse.RawDescriptionHelpFormatter, _listed()
    options.add_argument("space", help="what to choose from: one of the spaces below, or a TOML file")
    add_data(options)
    options.add_argument("--trials", type=above_zero, required=True, metavar="N", help="candidates to try")
    options.add_argument("--out", type=Path, required=True, metavar="DIR", help="the search's folder")
    options.add_argument(
        "--strategy", metavar="NAME", help="one of those below; default: evolution, for pareto nsga2"
    )
    options.add_argument(
        "--option", action="append", default=[], metavar="K=V", help="of the strategy; may be repeated"
    )
    options.add_argument("--seed", type=int, default=0, help="default: 0")
    options.add_argument(
        "--demo", action="store_true", help="search a network for digits and judge it; takes only --out"
    )
    _add_objective(options)
    _add_workers(options)
    _add_evaluation(options)
    return options


def _add_objective(options: argparse.ArgumentParser) -> None:
    group = options.add_argument_group("objective")
    group.add_argument(
        "--objective", choices=_OBJECTIVES, help="default: mnas with a --target, else accuracy"
    )
    group.add_argument(
        "--cost",
        default="macs",
        metavar="COST",
        help="the cost to trade against accuracy: macs (default), parameters, bytes, latency_ms or "
        "table:FILE",
    )
    group.add_argument("--target", type=float, metavar="COST", help="the cost to aim for, such as 3e6")
    group.add_argument("--exponent", type=float, metavar="W", help="how much it weighs (mnas: -0.07)")
    group.add_argument(
        "--limit", action="append", default=[], metavar="COST=MOST", help="as macs=3e6; may be repeated"
    )


def _add_workers(options: argparse.ArgumentParser) -> None:
    group = options.add_argument_group("workers")
    group.add_argument("--workers", type=above_zero, metavar="N", help="processes (default: 1)")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on a Ray cluster, as `auto`; --data and tables are paths of every machine",
    )


def _add_evaluation(options: argparse.ArgumentParser) -> None:
    group = options.add_argument_group("evaluation of a candidate")
    group.add_argument(
        "--evaluation", metavar="KIND", help="train (default), or proxy:NAME, as proxy:synflow"
    )
    group.add_argument("--config", type=Path, metavar="TOML", help="its settings; options override them")
    group.add_argument("--epochs", type=above_zero, help="passes over the images")
    group.add_argument("--batch", type=above_zero, help="images a step")
    group.add_argument("--learning-rate", type=float, help="the peak")
    group.add_argument("--patience", type=int, help="epochs without a gain that end a training")
    group.add_argument("--train-images", type=int, metavar="N", help="at most so many; 0 is all")
    group.add_argument("--validation-images", type=int, metavar="N", help="at most so many; 0 is all")
    add_old_name(group, "--train-pictures", "--train-images")
    add_old_name(group, "--validation-pictures", "--validation-images")
    group.add_argument(
        "--pruner",
        choices=["none", "halving", "hyperband"],
        default="none",
        help="ends trainings that fall behind",
    )
