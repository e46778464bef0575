"""`python -m effkeras.search.benchmarks.rank_bench`: which proxies rank networks as training does.

For networks in a table of trained ones: Kendall's tau of synflow, parameters and MACs with the accuracies of
the table. Some networks are trained again with other seeds; the tau of these accuracies is the best that can
be expected of any proxy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effkeras.search.benchmarks.problems import Interval, bootstrap
from effkeras.search.benchmarks.table_space import TableSpace, read_table
from effkeras.search.evaluation.block_tables import kendall_tau
from effkeras.search.evaluation.evaluators import make_evaluator
from effkeras.search.evaluation.settings import (
    PROXIES,
    PROXY,
    Candidate,
    EvaluationData,
    EvaluationSettings,
    Evaluator,
    Outcome,
    checked,
)
from effkeras.search.genomes import Genome
from effkeras.search.spaces.reading import ModelSpace, read_space
from effkeras.support import results
from effkeras.support.console import run_command, table, track
from effkeras.support.errors import EffkerasError
from effkeras.support.options import above_zero, add_data, parser
from effkeras.support.tables import read_toml, to_record

COLUMNS = ("proxy", "networks", "Kendall's tau", "95 %")
AGAIN = "trained again"


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a proxy orders `networks` networks: Kendall's tau-b, 1 for the order of the table, 0 by chance."""

    figure: str
    networks: int
    tau: Interval

    def to_row(self) -> results.Row:
        """The measurement as a plain record, kind "search-rank"."""
        return {
            "kind": "search-rank",
            "figure": self.figure,
            "networks": self.networks,
            "tau": self.tau.to_row(),
        }

    def cells(self) -> list[str]:
        """A row of the table."""
        tau = self.tau
        return [self.figure, str(self.networks), f"{tau.value:.2f}", f"{tau.low:.2f}..{tau.high:.2f}"]


def ranking(figure: str, values: Sequence[float], accuracies: Sequence[float]) -> Ranking:
    """Compares a proxy of networks with their accuracies; the interval is a bootstrap over networks."""
    ours, theirs = np.asarray(values), np.asarray(accuracies)
    tau = bootstrap(len(ours), lambda drawn: kendall_tau(ours[drawn], theirs[drawn]))
    return Ranking(figure, len(ours), tau)


@dataclass(frozen=True, slots=True)
class Evaluators:
    """Evaluators of the same networks: by proxies, and by training."""

    proxies: Evaluator
    trainings: Evaluator


def rankings(
    networks: TableSpace, evaluators: Evaluators, chosen: Sequence[Genome], again: int
) -> Iterator[Ranking]:
    """Ranks the chosen networks by every proxy, and the first `again` of them by a new training."""
    accuracies = [networks.outcome(genome).accuracy for genome in chosen]
    probed = _outcomes(evaluators.proxies, chosen, "proxies")
    for name in PROXIES:
        yield ranking(name, [one.metrics[name] for one in probed], accuracies)
    trained = _outcomes(evaluators.trainings, chosen[:again], "trainings")
    yield ranking(AGAIN, [one.accuracy for one in trained], accuracies[:again])


def drawn(networks: TableSpace, count: int) -> list[Genome]:
    """Draws `count` networks of the table, always the same ones; raises EffkerasError if it has fewer."""
    known = sorted(networks.outcomes)
    if count > len(known):
        raise EffkerasError(f"the table has {len(known):,} networks, which are fewer than {count:,}")
    return [known[index] for index in np.random.default_rng(0).permutation(len(known))[:count]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def _outcomes(evaluate: Evaluator, chosen: Sequence[Genome], title: str) -> list[Outcome]:
    candidates = [Candidate(genome, seed) for seed, genome in enumerate(chosen)]
    return [evaluate(one, lambda step, accuracy: None) for one in track(candidates, title)]


def _evaluators(chosen: argparse.Namespace, space: ModelSpace) -> Evaluators:
    settings = checked(to_record(EvaluationSettings, read_toml(chosen.config), str(chosen.config)))
    data = EvaluationData(chosen.data.absolute(), chosen.skip_bad, chosen.one_based)
    return Evaluators(
        proxies=make_evaluator(replace(settings, kind=PROXY + PROXIES[0]), data, space),
        trainings=make_evaluator(settings, data, space),
    )


def _run(argv: Sequence[str] | None) -> None:
    chosen = _options(argv)
    space = read_space(chosen.space)
    networks = read_table(chosen.table, space)
    genomes = drawn(networks, chosen.networks)
    found = list(rankings(networks, _evaluators(chosen, space), genomes, chosen.again))
    rows = [{**one.to_row(), "table": chosen.table.name} for one in found]
    results.append(chosen.out, map(results.stamped, rows))
    table(f"{chosen.table.name}: rank correlation with accuracy", COLUMNS, [one.cells() for one in found])


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser("search-rank-bench", "Says which cheap figures order networks as their trainings do.")
    options.add_argument("--table", type=Path, required=True, metavar="FILE", help="networks trained before")
    options.add_argument("--space", required=True, metavar="NAME", help="the table's, a name or TOML file")
    options.add_argument(
        "--config", type=Path, required=True, metavar="TOML", help="how the table's networks were trained"
    )
    add_data(options)
    options.add_argument("--networks", type=above_zero, default=200, help="of the table (default: 200)")
    options.add_argument("--again", type=above_zero, default=40, help="trained once more (default: 40)")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    return options.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
