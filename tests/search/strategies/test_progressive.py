"""Progressive search: groups are opened in order, and the surrogate ranks what was not tried."""

from __future__ import annotations

import numpy as np
import pytest
from support.toy_space import ToySpace

from effkeras.search.benchmarks.problems import Landscape
from effkeras.search.genomes import Gene, all_genomes
from effkeras.search.strategies.progressive import Surrogate, groups
from effkeras.search.strategies.strategy import Feedback, make_strategy


def test_genes_are_opened_together_by_their_names():
    assert groups(ToySpace.genes) == [(0, 1), (2, 3)]
    names = ("a", "b", "cell.0.op", "cell.1.op", "cell.0.of", "a.x")
    assert groups(tuple(Gene(name, (1, 2)) for name in names)) == [(0,), (1,), (2, 4), (3,), (5,)]


def test_groups_are_opened_one_after_another():
    landscape = Landscape(0)
    strategy = make_strategy("progressive", landscape, 0, {"beam": 2, "step": 3})
    asked = []
    for ask in range(1 + 3 * 7):
        asked.append(strategy.ask())
        strategy.tell(Feedback(ask, asked[-1], landscape.value(asked[-1])))
    base = asked[0]
    for level in range(7):
        for genome in asked[1 + 3 * level : 4 + 3 * level]:
            assert genome[level + 1 :] == base[level + 1 :]
            assert genome[level] != base[level] or genome[:level] != base[:level]


def test_a_surrogate_ranks_what_was_not_tried():
    landscape, random = Landscape(0, genes=5, ops=4), np.random.default_rng(0)
    genomes = list(all_genomes(landscape))
    order = random.permutation(len(genomes))
    known, unknown = ([genomes[i] for i in part] for part in (order[:150], order[150:]))
    surrogate = Surrogate(known, [landscape.value(genome) for genome in known], random)
    values = np.array([landscape.value(genome) for genome in unknown])
    assert np.corrcoef(surrogate.predict(unknown), values)[0, 1] > 0.8


def test_a_surrogate_of_equal_rewards_expects_them():
    surrogate = Surrogate([(0, 1), (1, 0)], [0.5, 0.5], np.random.default_rng(0))
    assert surrogate.predict([(0, 0), (1, 1)]) == pytest.approx([0.5, 0.5])
