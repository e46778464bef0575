"""Regularised evolution: who has children, who dies, and what a failure is."""

from __future__ import annotations

from effkeras.search.benchmarks.problems import Landscape
from effkeras.search.genomes import neighbours
from effkeras.search.strategies.strategy import Feedback, make_strategy

LANDSCAPE = Landscape(0)


def evolution(**options):
    return make_strategy("evolution", LANDSCAPE, 0, options)


def test_the_best_of_all_is_the_parent_when_all_compete():
    strategy = evolution(population=4, tournament=4)
    members = [strategy.ask() for _ in range(4)]
    for ask, (genome, reward) in enumerate(zip(members, (0.2, 0.9, 0.5, 0.1), strict=True)):
        strategy.tell(Feedback(ask, genome, reward))
    near = set(neighbours(LANDSCAPE, members[1]))
    assert all(strategy.ask() in near for _ in range(10))


def test_the_oldest_dies_however_good_it_is():
    strategy = evolution(population=3, tournament=3)
    members = [strategy.ask() for _ in range(3)]
    for ask, genome in enumerate(members):
        strategy.tell(Feedback(ask, genome, 0.9 if ask == 0 else 0.1))
    child = strategy.ask()
    assert child in set(neighbours(LANDSCAPE, members[0]))
    strategy.tell(Feedback(3, child, 0.5))
    assert strategy.ask() in set(neighbours(LANDSCAPE, child))


def test_age_is_that_of_the_result():
    """The first proposal's result comes last: it stays when the others have gone."""
    strategy = evolution(population=2, tournament=2)
    members = [strategy.ask() for _ in range(3)]
    for ask in (1, 2, 0):
        strategy.tell(Feedback(ask, members[ask], {0: 0.3, 1: 0.9, 2: 0.1}[ask]))
    assert strategy.ask() in set(neighbours(LANDSCAPE, members[0]))


def test_the_loser_of_a_small_tournament_may_win_elsewhere():
    strategy = evolution(population=10, tournament=1)
    members = [strategy.ask() for _ in range(10)]
    for ask, genome in enumerate(members):
        strategy.tell(Feedback(ask, genome, ask / 10))
    parents = {
        ask
        for _ in range(60)
        for ask, one in enumerate(members)
        if strategy.ask() in set(neighbours(LANDSCAPE, one))
    }
    assert len(parents) > 3


def test_failures_never_join():
    strategy = evolution(population=2, tournament=2)
    good = strategy.ask()
    strategy.tell(Feedback(0, good, 0.0))
    for ask in range(1, 6):
        strategy.tell(Feedback(ask, strategy.ask(), None))
    assert strategy.ask() in set(neighbours(LANDSCAPE, good))


def test_nothing_is_proposed_twice():
    strategy, seen = evolution(population=5, tournament=5), []
    for ask in range(150):
        seen.append(strategy.ask())
        strategy.tell(Feedback(ask, seen[-1], LANDSCAPE.value(seen[-1])))
    assert len(set(seen)) == 150
