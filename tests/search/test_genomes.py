"""Genomes: whatever is made of them is valid, canonical and in the space."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toy_space import NETWORKS, ToySpace

from effkeras.search import genomes
from effkeras.search.genomes import Gene
from effkeras.support.errors import EffkerasError

SPACE = ToySpace()
GENOMES = [
    genome
    for genome in itertools.product(*(range(len(gene.choices)) for gene in SPACE.genes))
    if not SPACE.problem(genome)
]
seeds = st.integers(0, 2**32 - 1)


def is_fit(genome):
    return not SPACE.problem(genome) and SPACE.canonical(genome) == genome


def test_a_space_is_counted_by_its_networks():
    assert genomes.raw_count(SPACE) == 36
    assert genomes.count(SPACE) == genomes.Count(NETWORKS, exact=True)
    assert len(set(genomes.all_genomes(SPACE))) == NETWORKS


def test_a_large_space_is_estimated(monkeypatch):
    monkeypatch.setattr(genomes, "_COUNTED", 0)
    estimate = genomes.count(SPACE)
    assert not estimate.exact
    assert estimate.networks == pytest.approx(NETWORKS, abs=1)


@given(seeds)
def test_what_is_drawn_is_fit(seed):
    assert is_fit(genomes.sample(SPACE, np.random.default_rng(seed)))


@given(seeds, st.sampled_from(sorted(genomes.all_genomes(SPACE))), st.integers(1, 4))
def test_a_mutation_is_another_fit_genome(seed, parent, changed):
    child = genomes.mutate(SPACE, parent, np.random.default_rng(seed), changed)
    assert is_fit(child)
    assert child != parent


def test_a_mutation_of_one_gene_reaches_all_neighbours():
    parent = (1, 0, 2, 1)
    random = np.random.default_rng(0)
    reached = {genomes.mutate(SPACE, parent, random) for _ in range(300)}
    assert reached == set(genomes.neighbours(SPACE, parent))


@given(seeds, st.sampled_from(GENOMES), st.sampled_from(GENOMES))
def test_a_child_of_two_is_fit(seed, one, other):
    assert is_fit(SPACE.canonical(genomes.cross(SPACE, one, other, np.random.default_rng(seed))))


def test_a_space_without_a_choice_cannot_be_mutated():
    class Single(ToySpace):
        genes = tuple(Gene(name, ("conv",)) for name in "abcd")

        def problem(self, genome):
            return ""

    assert genomes.mutate(Single(), (0, 0, 0, 0), np.random.default_rng(0)) == (0, 0, 0, 0)


def test_a_genome_is_a_word():
    for genome in GENOMES:
        assert genomes.genome_of(genomes.key(genome), SPACE) == genome


@pytest.mark.parametrize("word", ["", "1-0-1", "1-0-1-2", "1-0-x-0", "3-0-0-0", "-1-0-0-0"])
def test_a_block_string_another_space_is_refused(word):
    with pytest.raises(EffkerasError, match="is no genome"):
        genomes.genome_of(word, SPACE)


def test_choices_are_named():
    assert genomes.chosen(SPACE, (1, 1, 0, 0)) == {
        "first.op": "conv",
        "first.kernel": 5,
        "second.op": "skip",
        "second.kernel": 3,
    }


@pytest.mark.parametrize(
    ("genes", "reason"),
    [
        ((), "has no genes"),
        ((Gene("a", ()),), "'a' has no choices"),
        ((Gene("a", (3, 5, 3)),), "'a' has a choice twice"),
        ((*(Gene(name, ("skip",)) for name in "abcd"),), "has no valid genome.*all layers are skips"),
    ],
)
def test_an_empty_or_contradictory_space_is_refused(genes, reason):
    space = ToySpace()
    space.genes = genes
    with pytest.raises(EffkerasError, match=reason):
        genomes.check_space(space)
