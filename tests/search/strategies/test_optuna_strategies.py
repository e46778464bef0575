"""TPE and NSGA-II: silent, absent without harm, and after what they are for."""

from __future__ import annotations

import sys

import optuna
import pytest

from effkeras.search.benchmarks.problems import Landscape
from effkeras.search.objectives import pareto_front
from effkeras.search.strategies.strategy import Feedback, make_strategy
from effkeras.support.errors import EffkerasError

LANDSCAPE = Landscape(2)
BOTH = pytest.mark.parametrize("name", ["tpe", "nsga2"])


@BOTH
def test_without_optuna_the_way_to_it_is_said(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(EffkerasError, match=r'pip install "effkeras\[search\]"'):
        make_strategy(name, LANDSCAPE, 0)


@BOTH
def test_nothing_is_said_and_the_users_level_stays(name, capfd):
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        strategy = make_strategy(name, LANDSCAPE, 0)
        for ask in range(25):
            genome = strategy.ask()
            strategy.tell(Feedback(ask, genome, LANDSCAPE.value(genome) if ask % 5 else None))
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(level)
    said = capfd.readouterr()
    assert said.out + said.err == ""


def search(name, cost, count=120):
    strategy, points = make_strategy(name, LANDSCAPE, 0), []
    for ask in range(count):
        genome = strategy.ask()
        accuracy = LANDSCAPE.value(genome)
        points.append((accuracy, cost(genome)))
        strategy.tell(Feedback(ask, genome, accuracy, *points[-1]))
    return points


def test_nsga2_goes_after_the_front():
    """Its late proposals are cheap, and there is more than one best."""
    points = search("nsga2", lambda genome: 1.0 + sum(genome))
    drawn = search("random", lambda genome: 1.0 + sum(genome))
    assert sum(cost for _, cost in points[-40:]) < 0.8 * sum(cost for _, cost in drawn[-40:])
    assert len(pareto_front(points)) >= 4


def test_tpe_and_nsga2_find_more_than_random_search():
    best = {name: max(search(name, lambda genome: 1.0)) for name in ("tpe", "nsga2", "random")}
    assert best["tpe"] > best["random"]
    assert best["nsga2"] > best["random"]
