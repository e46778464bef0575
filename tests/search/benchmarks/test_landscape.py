"""The landscape: its optimum is the one of brute force, and its values are what its terms add up to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effkeras.search.benchmarks.problems import Landscape
from effkeras.search.genomes import all_genomes, check_space, raw_count
from effkeras.support.errors import EffkerasError


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 4), st.sampled_from([0.0, 0.5, 3.0]))
def test_the_optimum_is_the_best_of_all(seed, genes, ops, pairs):
    landscape = Landscape(seed, genes, ops, pairs)
    values = {genome: landscape.value(genome) for genome in itertools.product(range(ops), repeat=genes)}
    assert max(values, key=values.get) == landscape.best
    assert values[landscape.best] == 1
    assert min(values.values()) == pytest.approx(0, abs=1e-12)


def test_it_is_the_one_of_the_numbers_to_reach():
    landscape = Landscape(0)
    check_space(landscape)
    assert raw_count(landscape) == 6**7
    assert landscape.value(landscape.best) == 1


def test_a_seed_is_a_landscape():
    genomes = list(itertools.islice(all_genomes(Landscape(0)), 50))
    one, again, other = ([Landscape(seed).value(genome) for genome in genomes] for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_only_neighbours_interact():
    """The effect of a gene depends on the genes beside it, and on no other."""
    landscape = Landscape(5)

    def effect(genome):
        return landscape.value((*genome[:3], 1, *genome[4:])) - landscape.value((*genome[:3], 0, *genome[4:]))

    base = effect((0, 0, 0, 0, 0, 0, 0))
    assert effect((2, 3, 0, 0, 0, 1, 4)) == pytest.approx(base, abs=1e-12)
    assert abs(effect((0, 0, 1, 0, 0, 0, 0)) - base) > 1e-3
    assert abs(effect((0, 0, 0, 0, 1, 0, 0)) - base) > 1e-3


def test_strategies_of_the_same_seed_draw_from_another_stream():
    landscape = Landscape(11, pairs=0.0)
    own = [landscape.value((op, *landscape.best[1:])) for op in range(6)]
    drawn = np.random.default_rng(11).normal(size=6)
    assert list(np.argsort(own)) != list(np.argsort(drawn))


@pytest.mark.parametrize(("genes", "ops"), [(0, 6), (7, 1)])
def test_nothing_to_choose_is_refused(genes, ops):
    with pytest.raises(EffkerasError, match="needs a gene and two ops"):
        Landscape(0, genes, ops)
