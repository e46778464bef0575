"""`python -m effkeras.search.benchmarks.strategy_bench`: compares each strategy with random search.

Every strategy and random search run with the same seeds and the same number of evaluations. The problems are
landscapes in closed form, one per seed, or a table of trained networks (`--table`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras.search.benchmarks.problems import (
    LandscapeProblem,
    LargestFirst,
    Problem,
    Score,
    TableProblem,
    best_found,
    play,
    score,
)
from effkeras.search.benchmarks.table_space import read_table
from effkeras.search.objectives import Objective
from effkeras.search.spaces.reading import read_space
from effkeras.search.strategies.strategy import STRATEGIES
from effkeras.support import results
from effkeras.support.console import run_command, table, track
from effkeras.support.options import above_zero, parser

RANDOM = "random"
# Only run with --only: a grid that ends early has tried only the first choices.
GRID = "grid"
LARGEST = "largest"
PARAMETERS = "parameters"
COLUMNS = ("strategy", "wins %", "95 %", "ties", "regret", "95 %")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Problems by seed, the seeds, and the number of evaluations of each search."""

    name: str
    problem: Callable[[int], Problem]
    seeds: range
    evaluations: int

    def found(self, strategy: str) -> list[float]:
        """The largest reward that the strategy finds with each seed."""
        return [
            play(strategy, self.problem(seed), seed, self.evaluations)
            for seed in track(self.seeds, f"{self.name}: {strategy}")
        ]


@dataclass(frozen=True, slots=True)
class Result:
    """The score of one strategy in a comparison."""

    contest: Comparison
    strategy: str
    score: Score

    def to_row(self) -> results.Row:
        """The measurement as a plain record, kind "search"; wins and regret with their 95 % intervals."""
        return {
            "kind": "search",
            "problem": self.contest.name,
            "strategy": self.strategy,
            "first_seed": self.contest.seeds.start,
            "seeds": len(self.contest.seeds),
            "evaluations": self.contest.evaluations,
            "wins": self.score.wins.to_row(),
            "ties": self.score.ties,
            "regret": self.score.regret.to_row(),
        }

    def cells(self) -> list[str]:
        """A row of the table; random search has no wins or ties against itself."""
        wins, regret = self.score.wins, self.score.regret
        shares = [f"{100 * share:.1f}" for share in (wins.value, wins.low, wins.high)]
        is_random = self.strategy == RANDOM
        return [
            self.strategy,
            "-" if is_random else shares[0],
            "-" if is_random else f"{shares[1]}..{shares[2]}",
            "-" if is_random else str(self.score.ties),
            f"{regret.value:.4f}",
            f"{regret.low:.4f}..{regret.high:.4f}",
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def played(contest: Comparison, strategies: Sequence[str]) -> Iterator[Result]:
    """The results of random search and of each strategy."""
    best = [contest.problem(seed).best for seed in contest.seeds]
    random = contest.found(RANDOM)
    for strategy in (RANDOM, *(name for name in strategies if name != RANDOM)):
        found = random if strategy == RANDOM else contest.found(strategy)
        yield Result(contest, strategy, score(found, random, best))
    problem = contest.problem(contest.seeds.start)
    if isinstance(problem, TableProblem) and problem.space.knows(PARAMETERS):
        # Its result is the same for every seed.
        largest = best_found(problem, LargestFirst(problem, PARAMETERS), contest.evaluations)
        yield Result(contest, LARGEST, score([largest] * len(random), random, best))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _options(argv)
    names = chosen.only or [name for name in STRATEGIES.entries() if name != GRID]
    for name in names:
        STRATEGIES.get(name)
    contest = _contest(chosen)
    done = list(played(contest, names))
    results.append(chosen.out, [results.stamped(result.to_row()) for result in done])
    title = f"{contest.name}, {contest.evaluations} evaluations, {len(contest.seeds)} seeds"
    table(f"{title}; a tie is no win", COLUMNS, [result.cells() for result in done])


def _contest(chosen: argparse.Namespace) -> Comparison:
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    if chosen.table is None:
        return Comparison("landscape", LandscapeProblem, seeds, chosen.evaluations)
    networks = read_table(chosen.table, read_space(chosen.space) if chosen.space else None)
    name, objective = chosen.table.name, Objective()
    if chosen.target is not None:
        name = f"{name}, {chosen.cost} {chosen.target:,.10g}"
        objective = Objective("mnas-hard", chosen.cost, chosen.target)
    problem = TableProblem(networks, objective)
    return Comparison(name, lambda seed: problem, seeds, chosen.evaluations)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser("search-bench", "Puts search strategies beside random search.")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    options.add_argument("--seeds", type=above_zero, default=200, help="searches of each (default: 200)")
    options.add_argument("--first-seed", type=int, default=0, help="the first of the seeds (default: 0)")
    options.add_argument(
        "--evaluations", type=above_zero, default=100, help="networks that a search tries (default: 100)"
    )
    options.add_argument("--only", nargs="+", metavar="STRATEGY", help="these strategies only")
    options.add_argument(
        "--table", type=Path, metavar="FILE", help="networks trained before, .json or .csv, for landscapes"
    )
    options.add_argument("--cost", default="macs", help="what --target is of: a cost of the table")
    options.add_argument(
        "--target", type=float, metavar="COST", help="for tables: what it should be at most (mnas-hard)"
    )
    options.add_argument(
        "--space", metavar="NAME", help="the table's space, a name or TOML file: it knows equal networks"
    )
    return options.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
