"""Policy gradient search: whose choices it learns from, and what becomes of failures and late results."""

from __future__ import annotations

import numpy as np
import pytest
from support.toy_space import ToySpace

from effkeras.search.benchmarks.problems import Landscape
from effkeras.search.strategies.policies import log_softmax
from effkeras.search.strategies.policy_search import Independent, LogitsOptions, PolicySearch
from effkeras.search.strategies.strategy import Feedback, make_strategy

LANDSCAPE = Landscape(0)
BOTH = pytest.mark.parametrize("name", ["logits", "controller"])
UPDATES = pytest.mark.parametrize("options", [{"update": "reinforce"}, {"update": "ppo", "batch": 3}])


def searching(space, **options):
    policy = Independent([len(gene.choices) for gene in space.genes])
    return policy, PolicySearch(space, policy, np.random.default_rng(0), LogitsOptions(**options))


def chances(policy):
    return np.exp(log_softmax(policy.logits(np.zeros((1, 1), int))[0][0]))


@BOTH
@UPDATES
def test_what_is_rewarded_becomes_likely(name, options):
    """A reward for one choice of one gene."""
    strategy = make_strategy(name, LANDSCAPE, 0, {**options, "redraws": 0, "entropy": 0.0})
    asked = []
    for ask in range(180):
        asked.append(strategy.ask())
        strategy.tell(Feedback(ask, asked[-1], float(asked[-1][3] == 2)))
    assert sum(genome[3] == 2 for genome in asked[:12]) < 8
    assert sum(genome[3] == 2 for genome in asked[-60:]) > 50


def test_the_controller_learns_what_one_choice_means_for_the_next():
    """Equal neighbours are rewarded, whichever they are: independent genes could only agree on one."""
    options = {"redraws": 0, "batch": 20, "entropy": 0.1, "rate": 0.02}
    strategy, asked = make_strategy("controller", Landscape(0, genes=2), 0, options), []
    for ask in range(1000):
        asked.append(strategy.ask())
        strategy.tell(Feedback(ask, asked[-1], float(asked[-1][0] == asked[-1][1])))
    last = np.array(asked[700:])
    first, second = (np.bincount(column, minlength=6) / len(last) for column in last.T)
    assert (last[:, 0] == last[:, 1]).mean() > first @ second + 0.2


def test_the_choices_drawn_are_learned_from_not_the_canonical_ones():
    """A skip as the second layer is drawn, its canonical form has it first: the second is what was good."""

    policy, strategy = searching(ToySpace(), redraws=0, entropy=0.0, rate=0.5)
    skips = 0
    for ask in range(200):
        genome = strategy.ask()
        drawn = strategy._under_way[ask].choices
        assert ToySpace().canonical(tuple(drawn)) == genome
        skips += drawn[2] == 0
        strategy.tell(Feedback(ask, genome, float(drawn[2] == 0)))
    assert skips > 100
    assert chances(policy)[2, 0] > 0.9
    assert chances(policy)[0, 0] < 0.5


@BOTH
def test_failures_are_avoided_on_any_scale(name):
    strategy = make_strategy(name, LANDSCAPE, 0, {"redraws": 0, "entropy": 0.0})
    asked = []
    for ask in range(180):
        asked.append(strategy.ask())
        has_failed = asked[-1][5] != 1
        strategy.tell(
            Feedback(ask, asked[-1], None if has_failed else -5 + LANDSCAPE.value(asked[-1]) / 1000)
        )
    assert sum(genome[5] == 1 for genome in asked[-60:]) > 45


def test_late_results_teach_ppo_what_was_likely_then():
    """When it is told, the choice has become more likely than the clip allows: no slope is left."""
    policy, strategy = searching(LANDSCAPE, update="ppo", batch=1, epochs=1, entropy=0.0, redraws=0)
    strategy.tell(Feedback(0, strategy.ask(), 0.0))
    late = strategy.ask()
    for gene, choice in enumerate(late):
        policy.parameters["logits"][gene, choice] += 2.0
    before = policy.parameters["logits"].copy()
    strategy.tell(Feedback(1, late, 1.0))
    assert (policy.parameters["logits"] == before).all()


@BOTH
@UPDATES
def test_proposals_do_not_depend_on_the_scale_of_rewards(name, options):
    def asked(scale):
        strategy = make_strategy(name, LANDSCAPE, 0, options)
        genomes = []
        for ask in range(60):
            genomes.append(strategy.ask())
            strategy.tell(Feedback(ask, genomes[-1], scale * LANDSCAPE.value(genomes[-1])))
        return genomes

    assert asked(1.0) == asked(2.0**-10)


def test_a_policy_that_is_sure_is_drawn_anew_before_it_repeats():
    policy, strategy = searching(Landscape(0, genes=2, ops=3), redraws=2000)
    policy.parameters["logits"][:, 0] = 3.0
    assert len({strategy.ask() for _ in range(9)}) == 9
    assert strategy.ask()


def test_a_policy_that_finds_no_network_is_passed_over():
    policy, strategy = searching(ToySpace())
    policy.parameters["logits"][(0, 2), (0, 0)] = 1e4  # both layers are skips, which is no network
    assert not ToySpace().problem(strategy.ask())
    strategy.tell(Feedback(0, strategy.ask(), 0.5))
