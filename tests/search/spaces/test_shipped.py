"""Spaces that come with effkeras: what is drawn of any can be counted, written, read back and built."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.space_files import shipped, space_from

import effkeras
from effkeras.building.models import build_spec
from effkeras.graph.counting import count
from effkeras.search import genomes
from effkeras.search.spaces.reading import space_names

SPACES = {name: shipped(name) for name in space_names()}
drawn = st.tuples(st.sampled_from(sorted(SPACES)), st.integers(0, 2**32 - 1))


def sampled(name, seed):
    return SPACES[name], genomes.sample(SPACES[name], np.random.default_rng(seed))


def test_what_ships():
    assert space_names() == [
        "compound-scaling",
        "digits-blocks",
        "digits-tiny",
        "efficientdet-lite",
        "mnasnet",
        "nasnet-cells",
        "pnasnet-cells",
    ]
    assert all(space.summary for space in SPACES.values())


def test_the_tiny_space_is_small_enough_to_train_all_of_it():
    space = SPACES["digits-tiny"]
    macs = [count(space.spec(genome)).macs for genome in genomes.all_genomes(space)]
    assert len(macs) == 1088
    assert max(macs) < 1e6


@settings(max_examples=50, deadline=None)
@given(drawn)
def test_a_candidate_is_a_sound_definition(which):
    space, genome = sampled(*which)
    spec = space.spec(genome)
    assert spec.name == f"{space.name}-{genomes.key(genome)}"
    assert count(spec).macs > 0
    assert (spec.published, spec.weights) == (None, {})
    assert space.canonical(genome) == genome
    assert space.encode(spec) == genome
    assert space.copies(genome) >= 1
    assert all(space.describe(genome))


@settings(max_examples=50, deadline=None)
@given(drawn)
def test_a_raw_genome_and_its_canonical_one_cost_the_same(which):
    name, seed = which
    space, random = SPACES[name], np.random.default_rng(seed)
    raw = tuple(int(random.integers(len(gene.choices))) for gene in space.genes)
    if not space.problem(raw):
        assert count(space._made(raw)) == count(space.spec(raw))
        assert space.spec(raw) == space.spec(space.canonical(raw))


@settings(max_examples=30, deadline=None)
@given(drawn)
def test_a_candidate_is_written_and_read_back(tmp_path_factory, which):
    space, genome = sampled(*which)
    path = tmp_path_factory.mktemp("candidate") / "model.toml"
    path.write_text(space.spec(genome).to_toml())
    assert effkeras.spec(path) == space.spec(genome)


@settings(max_examples=30, deadline=None)
@given(drawn, st.integers(0, 2**32 - 1))
def test_children_are_fit(which, seed):
    space, one = sampled(*which)
    random = np.random.default_rng(seed)
    other = genomes.sample(space, random)
    for child in (genomes.mutate(space, one, random), genomes.cross(space, one, other, random)):
        assert not space.problem(child)
        assert space.canonical(child) == child


def test_digits_blocks_is_small():
    space, random = SPACES["digits-blocks"], np.random.default_rng(0)
    macs = [count(space.spec(genomes.sample(space, random))).macs for _ in range(200)]
    assert 0.3e6 < min(macs) < 0.7e6
    assert 5e6 < max(macs) < 16e6


@pytest.mark.parametrize("seed", range(2))
def test_a_candidate_of_blocks_is_built(seed):
    assert_is_built(*sampled("digits-blocks", seed))


def test_a_candidate_of_cells_is_built(tmp_path):
    text = 'kind = "cells"\nbase = "nasnet-cifar"\nnodes = 2\nrepeats = 1\nfilters = 8\nstem = 8\n'
    space = space_from(tmp_path, text)
    assert_is_built(space, genomes.sample(space, np.random.default_rng(0)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nasnet-cells", "pnasnet-cells", "efficientdet-lite", "mnasnet"])
def test_a_larger_candidate_is_built(name):
    assert_is_built(*sampled(name, 1))


def assert_is_built(space, genome):
    keras.backend.clear_session()
    spec = space.spec(genome)
    assert build_spec(spec).count_params() == count(spec).total


def test_reading_loads_no_tensorflow():
    code = (
        "import sys\n"
        "from effkeras.search.spaces.reading import read_space\n"
        "space = read_space('digits-blocks')\n"
        "space.spec((0,) * len(space.genes)).to_toml()\n"
        "assert not {'tensorflow', 'keras', 'optuna', 'ray'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
