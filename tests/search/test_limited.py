"""Limits that are known before any training: no trial is spent on what breaks them."""

from __future__ import annotations

import numpy as np
import pytest

from effkeras.errors import EffkerasError
from effkeras.graph.counting import cost
from effkeras.search.genomes import check_space, mutate, sample
from effkeras.search.limited import Limited
from effkeras.search.spaces.reading import read_space


def macs_of(spec, names):
    return {"parameters": cost(spec)[0], "macs": cost(spec)[1]}


def test_what_is_drawn_keeps_the_limit():
    space = Limited(read_space("digits-blocks"), {"macs": 3e6}, macs_of)
    random = np.random.default_rng(0)
    genome = sample(space, random)
    for _ in range(40):
        assert cost(space.spec(genome))[1] <= 3e6
        genome = mutate(space, genome, random)
    free = [sample(space.space, random) for _ in range(40)]
    assert any(space.problem(one).startswith("macs ") for one in free)


def test_a_limit_that_nothing_meets_is_refused(monkeypatch):
    monkeypatch.setattr("effkeras.search.genomes._DRAWS", 50)
    space = Limited(read_space("digits-blocks"), {"parameters": 100}, macs_of)
    with pytest.raises(EffkerasError, match=r"as parameters \S* is over the limit of 100"):
        check_space(space)
