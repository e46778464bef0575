"""Strategies beat random search on landscapes, and the figures that say so are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.toy_space import ToySpace

from effkeras.search.benchmarks.problems import (
    LandscapeProblem,
    LargestFirst,
    TableProblem,
    best_found,
    bootstrap_mean,
    play,
    score,
    wilson,
)
from effkeras.search.benchmarks.table_space import Outcome, TableSpace
from effkeras.search.genomes import all_genomes
from effkeras.search.objectives import Objective

TABLE = TableSpace(
    ToySpace(),
    {
        genome: Outcome(0.5 + sum(genome) / 20, {"parameters": 100 * (1 + sum(genome)), "macs": 1000})
        for genome in all_genomes(ToySpace())
    },
)


def contest(strategy, seeds):
    problems = [LandscapeProblem(seed) for seed in seeds]
    found, random = (
        [play(name, one, seed, 100) for one, seed in zip(problems, seeds, strict=True)]
        for name in (strategy, "random")
    )
    return score(found, random, [1.0] * len(found))


# Far below the shares of 200 seeds (see models/results.jsonl), so that chance does not fail them.
@pytest.mark.parametrize(
    ("strategy", "seeds", "wins", "regret"),
    [
        ("evolution", 40, 0.9, 0.08),
        ("logits", 40, 0.85, 0.09),
        ("controller", 10, 0.7, 0.12),
        ("progressive", 20, 0.85, 0.06),
    ],
)
def test_it_beats_random_search(strategy, seeds, wins, regret):
    found = contest(strategy, range(seeds))
    assert found.wins.value >= wins
    assert found.regret.value <= regret


@pytest.mark.parametrize(
    ("strategy", "wins"),
    [
        pytest.param("evolution", 0.95, marks=pytest.mark.slow),
        pytest.param("logits", 0.93, marks=pytest.mark.slow),
        pytest.param("controller", 0.90, marks=pytest.mark.nightly("training")),
    ],
)
def test_it_beats_random_search_in_so_many_of_200_seeds(strategy, wins):
    assert contest(strategy, range(200)).wins.value >= wins


def test_a_tie_is_no_win():
    found = score([0.5, 0.7, 0.9, 1.0], [0.5, 0.6, 0.95, 0.9], [1.0, 1.0, 1.0, 1.0])
    assert (found.wins.value, found.ties) == (0.5, 1)
    assert found.regret.value == pytest.approx(0.225)


def test_wilson_intervals_are_the_published_ones():
    """Newcombe (Statistics in Medicine 1998), table I, method 3."""
    for successes, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
    ):
        found = wilson(successes, count)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert wilson(20, 20).high == 1


def test_the_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_a_table_is_searched_by_its_objective():
    best = max(TABLE.outcomes, key=lambda genome: TABLE.outcomes[genome].accuracy)
    problem = TableProblem(TABLE)
    assert problem.best == TABLE.outcomes[best].accuracy
    assert play("random", problem, 0, len(TABLE.outcomes)) == problem.best
    small = TableProblem(TABLE, Objective("mnas", "parameters", 300, exponent=-1.0))
    feedback, cost = small.evaluate(0, best), TABLE.outcomes[best].costs["parameters"]
    assert feedback.reward == pytest.approx(feedback.accuracy * 300 / cost)
    assert small.best > feedback.reward
    assert feedback.cost is None
    assert TableProblem(TABLE, Objective("pareto", "parameters")).evaluate(0, best).cost == cost


def test_the_largest_networks_are_tried_first():
    problem = TableProblem(TABLE)
    strategy = LargestFirst(problem, "parameters")
    sizes = [TABLE.outcomes[strategy.ask()].costs["parameters"] for _ in range(20)]
    assert sizes == sorted(sizes, reverse=True)
    assert best_found(problem, LargestFirst(problem, "parameters"), 1) == problem.best


def test_the_largest_within_a_target_are_tried_before_those_above_it():
    problem = TableProblem(TABLE, Objective("mnas-hard", "parameters", 400))
    strategy = LargestFirst(problem, "parameters")
    sizes = [TABLE.outcomes[strategy.ask()].costs["parameters"] for _ in TABLE.outcomes]
    within = [size for size in sizes if size <= 400]
    assert 0 < len(within) < len(sizes)
    assert sizes == [*sorted(within, reverse=True), *sorted(sizes[len(within) :], reverse=True)]
