"""`effkeras search SPACE --data DIR --trials N --out DIR`: searches for a network; resumes if repeated."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.search.options import job_of, size_of
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import facts, hint, note, result, run_command, say
from effkeras.support.errors import printable
from effkeras.support.options import Verb, above_zero, add_data, add_json, add_old_name, explained, parser

if TYPE_CHECKING:
    from effkeras.search.run import Status
    from effkeras.search.trials.job import SearchJob
    from effkeras.search.trials.workers import WorkerPool

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
    need_tensorflow("a search")
    job = job_of(chosen)
    pool = _pool(chosen)
    from effkeras.search.run import Display, search

    note(size_of(job))
    made_by = f"{job.strategy.name}, {_workers(chosen)}"
    note(f"{job.trials:,} trials with {made_by}; everything is kept in {job.out}")
    try:
        with Display(job.objective.cost) as display:
            status = search(job, pool, display)
    except KeyboardInterrupt:
        note(f"stopped; finished trials are kept in {job.out}")
        raise
    return _conclude(job, status, chosen.data)


def _pool(chosen: argparse.Namespace) -> WorkerPool:
    if chosen.ray is not None:
        from effkeras.search.trials.cluster import Cluster

        return Cluster(chosen.ray, chosen.workers)
    from effkeras.search.trials.processes import Processes

    return Processes(chosen.workers or 1)


def _workers(chosen: argparse.Namespace) -> str:
    count = chosen.workers or (0 if chosen.ray is not None else 1)
    many = f"{count or 'all possible'} worker{'' if count == 1 else 's'}"
    return f"{many} on the Ray cluster {chosen.ray}" if chosen.ray is not None else many


def _conclude(job: SearchJob, status: Status, data: Path) -> int:
    """Prints the result and the next command; returns 1 if no candidate succeeded."""
    from effkeras.search.genomes import chosen
    from effkeras.search.run import short_amount
    from effkeras.search.trials.records import Result

    counts = {name: getattr(status, name) for name in ("finished", "failed", "repeats", "ending")}
    say(f"{status.finished} candidates, {status.failed} failed, {status.repeats} repeats: {status.ending}")
    if status.best is None:
        say(f"no candidate succeeded, most often for: {printable(status.reason)}; see {job.out / 'logs'}")
        result({**counts, "best": None})
        return 1
    found = status.best.result or Result()
    rows = [("reward", f"{found.reward:.4f}"), ("accuracy", f"{found.accuracy:.4f}")]
    rows += [(name, short_amount(value)) for name, value in found.costs.items()]
    rows += [(name, str(choice)) for name, choice in chosen(job.space, status.best.genome).items()]
    facts(f"the best, trial {status.best.number}", rows)
    best = job.out / "best.toml"
    if job.is_front:
        count = len(list((job.out / "front").glob("*.toml")))
        what = f"definition{'' if count == 1 else 's'}, the front of accuracy and {job.objective.cost}"
        say(f"{job.out / 'front'}: {count} {what}")
    figures = {"reward": found.reward, "accuracy": found.accuracy, "costs": dict(found.costs)}
    result({**counts, "best": {"trial": status.best.number, "definition": str(best), **figures}})
    say(f"{best}: the best as a model")
    hint(shlex.join(["effkeras", "train", str(best), "--data", str(data), "--out", f"{job.out}-best"]))
    hint(shlex.join(["effkeras", "search", "report", str(job.out)]), "to look at the search")
    return 0


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
    options.epilog = _listed()
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
    add_json(options)
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
        "--constraint",
        action="append",
        default=[],
        metavar="COST=MOST",
        help="as macs=3e6; may be repeated",
    )
    add_old_name(group, "--limit", "--constraint")


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
