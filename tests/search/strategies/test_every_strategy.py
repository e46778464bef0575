"""What every strategy keeps: fit genomes, the same proposals under the same calls, and no grudge."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pages import complete_file
from support.toy_space import NETWORKS, ToySpace

from effkeras.search.benchmarks.problems import Landscape
from effkeras.search.genomes import Gene, all_genomes, key
from effkeras.search.strategies.strategy import STRATEGIES, Feedback, default_options, make_strategy
from effkeras.support.errors import EffkerasError

SPACE = ToySpace()
NETWORKS_OF_TOY = set(all_genomes(SPACE))
EVERY = pytest.mark.parametrize("name", STRATEGIES.entries())


def worth(genome):
    """A reward for any genome, and None for about every seventh."""
    number = hash(genome) % 7
    return None if number == 6 else number / 10 + sum(genome) / 100


def result(ask, genome):
    reward = worth(genome)
    return (
        Feedback(ask, genome, reward)
        if reward is None
        else Feedback(ask, genome, reward, reward, 1.0 + len(genome))
    )


def proposals(name, space, seed, calls):
    """What a strategy proposes; each of `calls` is an ask, or tells the open proposal of that position."""
    strategy, asked, under_way = make_strategy(name, space, seed), [], []
    for call in calls:
        if call is None or not under_way:
            asked.append(strategy.ask())
            under_way.append((len(asked) - 1, asked[-1]))
        else:
            strategy.tell(result(*under_way.pop(call % len(under_way))))
    return asked


# Asks and tells in any order, with up to many proposals under way.
calls = st.lists(st.none() | st.integers(0, 20), min_size=30, max_size=80)


@EVERY
@settings(max_examples=4, deadline=None)
@given(calls, st.integers(0, 2**32 - 1))
def test_the_same_calls_make_the_same_proposals_and_all_are_fit(name, calls, seed):
    first = proposals(name, SPACE, seed, calls)
    assert first == proposals(name, SPACE, seed, calls)
    assert set(first) <= NETWORKS_OF_TOY
    assert all(type(choice) is int for genome in first for choice in genome)


@EVERY
def test_another_seed_makes_other_proposals(name):
    """But a grid's."""
    landscape, calls = Landscape(0), [None, 0] * 20
    is_same = proposals(name, landscape, 0, calls) == proposals(name, landscape, 1, calls)
    assert is_same == (name == "grid")


@EVERY
def test_results_matter(name):
    """But to random search and to a grid."""
    landscape, found = Landscape(0), []
    for sign in (1, -1):
        strategy = make_strategy(name, landscape, 0)
        asked = []
        for ask in range(60):
            asked.append(strategy.ask())
            value = (1 + sign * (2 * landscape.value(asked[-1]) - 1)) / 2
            strategy.tell(Feedback(ask, asked[-1], value, value, 1.0))
        found.append(asked)
    assert (found[0] == found[1]) == (name in ("random", "grid"))


@EVERY
def test_a_small_space_is_tried_to_its_end_and_beyond(name):
    asked = proposals(name, SPACE, 0, [None, 0] * (3 * NETWORKS))
    assert len(asked) >= 3 * NETWORKS
    assert set(asked) <= NETWORKS_OF_TOY
    if name not in ("logits", "controller"):  # these may repeat what their policy is sure of
        assert set(asked[:NETWORKS]) == NETWORKS_OF_TOY


@EVERY
def test_a_search_survives_nothing_but_failures(name):
    strategy = make_strategy(name, SPACE, 0)
    for ask in range(20):
        genome = strategy.ask()
        assert genome in NETWORKS_OF_TOY
        strategy.tell(Feedback(ask, genome, None))


@EVERY
def test_results_may_never_come_or_be_of_nothing_asked(name):
    strategy = make_strategy(name, SPACE, 0)
    asked = [strategy.ask() for _ in range(40)]
    strategy.tell(Feedback(1000, (0, 0, 1, 1), 0.5, 0.5, 1.0))
    assert strategy.ask() in NETWORKS_OF_TOY
    strategy.tell(Feedback(39, asked[39], 0.5, 0.5, 1.0))
    strategy.tell(Feedback(39, asked[39], 0.5, 0.5, 1.0))
    assert strategy.ask() in NETWORKS_OF_TOY


@EVERY
def test_a_space_of_one_network_is_searched(name):
    class Single(ToySpace):
        genes = tuple(Gene(gene, ("conv",)) for gene in ("a.op", "a.kernel", "b.op", "b.kernel"))

        def problem(self, genome):
            return ""

    assert set(proposals(name, Single(), 0, [None, 0, None, None, 0, None])) == {(0, 0, 0, 0)}


@EVERY
def test_genes_have_their_own_numbers_of_choices(name):
    class Uneven(Landscape):
        def __init__(self):
            super().__init__(0)
            self.genes = tuple(Gene(f"g{n}", tuple(range(n))) for n in (2, 5, 1, 7))

        def value(self, genome):
            return genome[3] / 6

    asked = proposals(name, Uneven(), 0, [None, 0] * 30)
    assert all(choice < size for genome in asked for choice, size in zip(genome, (2, 5, 1, 7), strict=True))


SCRIPT = """
import sys
from effkeras.search.genomes import key
from effkeras.search.benchmarks.problems import Landscape
from effkeras.search.strategies.strategy import Feedback
from effkeras.search.strategies.strategy import STRATEGIES, make_strategy
landscape = Landscape(0)
for name in STRATEGIES.entries():
    strategy = make_strategy(name, landscape, 5)
    for ask in range(40):
        genome = strategy.ask()
        reward = landscape.value(genome)
        strategy.tell(Feedback(ask, genome, reward, reward, 1.0 + sum(genome)))
    print(name, key(genome), strategy.ask())
print("tensorflow" in sys.modules)
"""


def test_another_process_proposes_the_same_without_tensorflow():
    """Whatever order its sets have."""
    said = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT], env={"PYTHONHASHSEED": seed}, **captured
        ).stdout
        for seed in ("1", "2")
        for captured in [{"capture_output": True, "text": True, "check": True}]
    }
    assert len(said) == 1
    assert said.pop().endswith("False\n")


@EVERY
def test_its_options_are_known_and_given(name):
    options = default_options(name)
    assert make_strategy(name, SPACE, 0, options).ask() == make_strategy(name, SPACE, 0).ask()
    assert STRATEGIES.get(name).summary


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("evolutoin", {}, "there is no strategy 'evolutoin'; did you mean 'evolution'"),
        (
            "evolution",
            {"populaton": 5},
            "options of evolution: unknown key 'populaton'; did you mean 'population'",
        ),
        ("evolution", {"population": 5.5}, "options of evolution: population must be a whole number"),
        ("evolution", {"population": 5, "tournament": 6}, "tournament must be from 1 to the population of 5"),
        ("controller", {"update": "reinforcd"}, "must be one of reinforce, ppo"),
        ("controller", {"rate": 0.0}, "rate must be above 0"),
        ("controller", {"units": 0}, "units must be 1 or more"),
        ("logits", {"batch": 0}, "batch must be 1 or more"),
        ("logits", {"baseline": 1.0}, "baseline must be from 0 to below 1"),
        ("progressive", {"beam": 0}, "beam and step must be 1 or more"),
        ("tpe", {"startup": 0}, "startup and candidates must be 1 or more"),
        ("nsga2", {"population": 1}, "population must be 2 or more"),
        ("nsga2", {"swap": 1.5}, "swap must be from 0 to 1"),
        ("random", {"anything": 1}, "unknown key 'anything'"),
        ("grid", {"anything": 1}, "unknown key 'anything'"),
    ],
)
def test_names_and_options_that_make_no_sense_are_refused(name, options, reason):
    with pytest.raises(EffkerasError, match=reason):
        make_strategy(name, SPACE, 0, options)


def test_a_negative_seed_is_refused():
    with pytest.raises(EffkerasError, match="seed must be 0 or more, not -1"):
        make_strategy("random", SPACE, -1)


def test_random_search_is_even():
    """Each raw genome as likely as any other, before what was tried is left out."""
    firsts = [key(make_strategy("random", SPACE, seed).ask()) for seed in range(600)]
    raw = [SPACE.canonical(g) for g in np.ndindex(3, 2, 3, 2) if not SPACE.problem(g)]
    for network in NETWORKS_OF_TOY:
        share = raw.count(network) / len(raw)
        assert abs(firsts.count(key(network)) / 600 - share) < 4 * (share * (1 - share) / 600) ** 0.5


def test_a_grid_is_in_order_and_begins_again():
    asked = proposals("grid", SPACE, 0, [None] * (2 * NETWORKS))
    assert asked == 2 * list(all_genomes(SPACE))


ONE_FILE = complete_file("strategy.md")


def test_a_strategy_is_one_file(tmp_path, monkeypatch, capsys):
    """Found by its name, listed in the help, with options of its own, and used by a whole search."""
    from support.fake_search import fake_job

    from effkeras.commands.search import main
    from effkeras.search import strategies
    from effkeras.search.run import search
    from effkeras.search.strategies.strategy import strategy_summaries
    from effkeras.search.trials.job import NamedStrategy
    from effkeras.search.trials.workers import InProcess

    (tmp_path / "last_first.py").write_text(ONE_FILE)
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, str(tmp_path)])
    monkeypatch.setattr(STRATEGIES, "_is_complete", False)
    monkeypatch.setattr(STRATEGIES, "_entries", dict(STRATEGIES.entries()))
    monkeypatch.setattr(STRATEGIES, "_is_complete", False)
    assert strategy_summaries()["last-first"] == "the last choices first"
    job = fake_job(tmp_path / "out", trials=2, strategy=NamedStrategy("last-first", {"turns": 1}))
    status = search(job, InProcess())
    assert status.finished == 2
    assert status.best.genome == (5, 5, 5, 5)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "last-first" in capsys.readouterr().out
