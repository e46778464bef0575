"""What was tried is not tried again while anything else is left."""

from __future__ import annotations

import numpy as np
import pytest
from support.toy_space import NETWORKS, ToySpace

from effkeras.search.genomes import all_genomes, neighbours
from effkeras.search.strategies import strategy
from effkeras.search.strategies.strategy import ProposedGenomes

SPACE = ToySpace()


def test_draws_go_through_the_space():
    seen = ProposedGenomes(SPACE, np.random.default_rng(0))
    drawn = [seen.add(seen.drawn()) for _ in range(NETWORKS)]
    assert sorted(drawn) == sorted(all_genomes(SPACE))
    assert not seen.is_all
    assert seen.drawn() in drawn
    assert seen.is_all


def test_the_rare_rest_is_listed(monkeypatch):
    monkeypatch.setattr(strategy, "_DRAWS", 0)
    seen = ProposedGenomes(SPACE, np.random.default_rng(0))
    assert len({seen.add(seen.drawn()) for _ in range(NETWORKS)}) == NETWORKS


def test_a_space_too_large_to_list_repeats_in_the_end(monkeypatch):
    monkeypatch.setattr(strategy, "_LISTED", 0)
    seen = ProposedGenomes(SPACE, np.random.default_rng(0))
    for _ in range(3 * NETWORKS):
        seen.add(seen.drawn())
    assert not seen.is_all
    assert seen.drawn() in seen


@pytest.mark.parametrize("parent", [(1, 0, 2, 1), (0, 0, 1, 1)])
def test_mutations_go_through_the_neighbours_first(parent):
    seen = ProposedGenomes(SPACE, np.random.default_rng(0))
    seen.add(parent)
    near = set(neighbours(SPACE, parent))
    assert {seen.add(seen.mutated(parent)) for _ in near} == near
    assert seen.mutated(parent) not in near | {parent}
