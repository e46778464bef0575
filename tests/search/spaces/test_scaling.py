"""The space of compound scaling is the paper's grid."""

from __future__ import annotations

import re

import pytest
from support.fake_search import Accuracy, fake_job, value
from support.pages import text_of
from support.space_files import operations, raw_genomes, shipped, space_from

import effkeras
from effkeras.definitions.scaling import PAPER, grid, with_phi
from effkeras.graph.counting import count
from effkeras.search import genomes
from effkeras.search.run import search
from effkeras.search.trials.job import NamedStrategy
from effkeras.search.trials.workers import InProcess

SPACE = shipped("compound-scaling")
VALID = [genome for genome in raw_genomes(SPACE) if not SPACE.problem(genome)]


def test_it_has_the_grid_s_triples():
    assert {SPACE.coefficients(genome) for genome in VALID} == set(grid())


def test_a_genome_that_spells_out_a_triple_means_it():
    for triple in grid():
        values = (triple.alpha, triple.beta, triple.gamma)
        genome = tuple(gene.choices.index(value) for gene, value in zip(SPACE.genes, values, strict=True))
        assert SPACE.coefficients(genome) == triple


def test_triples_of_the_same_network_are_one():
    seen = {}
    for genome in {SPACE.coefficients(genome): genome for genome in VALID}.values():
        lowest = SPACE.canonical(genome)
        assert SPACE.canonical(lowest) == lowest
        assert seen.setdefault(operations(SPACE._made(genome)), lowest) == lowest
    assert len(set(seen.values())) == len(seen) == genomes.count(SPACE).networks
    assert sum(SPACE.copies(lowest) for lowest in seen.values()) == len(VALID)


def test_what_is_shown_of_a_canonical_genome_is_what_is_built():
    for lowest in genomes.all_genomes(SPACE):
        triple = SPACE.coefficients(lowest)
        shown = genomes.chosen(SPACE, lowest)
        assert shown == {"alpha": triple.alpha, "beta": triple.beta, "gamma": triple.gamma}


def test_the_paper_s_triple_is_a_member():
    scaled = with_phi(effkeras.spec("efficientnet-b0"), 1, PAPER)
    genome = SPACE.encode(scaled)
    assert operations(SPACE.spec(genome)) == operations(scaled)
    assert SPACE.encode(effkeras.spec("efficientnet-b7")) is None


def test_a_triple_that_costs_something_else_has_a_problem():
    dear = tuple(len(gene.choices) - 1 for gene in SPACE.genes)
    assert SPACE.problem(dear).startswith("no alpha brings alpha * 1.4^2 * 1.4^2 within 0.1 of 2")


def test_all_triples_are_within_reach_of_single_mutations():
    reached, fresh = set(), {next(genomes.all_genomes(SPACE))}
    while fresh:
        reached |= fresh
        fresh = {one for genome in fresh for one in genomes.neighbours(SPACE, genome)} - reached
    assert reached == set(genomes.all_genomes(SPACE))


def test_choices_and_steps_of_one_s_own(tmp_path):
    choices = "alpha = [1, 2]\nbeta = 1\ngamma = [1, 1.4142]\nsize_multiple = 32"
    text = f'kind = "scaling"\nbase = "nasnet-mobile"\n{choices}\n'
    space = space_from(tmp_path, text)
    networks = {
        (spec.network.repeats, spec.input.size[0]) for spec in map(space.spec, genomes.all_genomes(space))
    }
    assert networks == {(8, 224), (4, 320)}


def test_the_docs_grid_of_the_digits_network(tmp_path):
    """What it says of how many there are, and of what they cost."""
    (text,) = re.findall(r'```toml\n(kind = "scaling".*?)```', text_of("docs/search.md"), re.DOTALL)
    space = space_from(tmp_path, text)
    base = count(space.base).macs
    shares = sorted(count(space.spec(genome)).macs / base for genome in genomes.all_genomes(space))
    assert len(shares) == 15
    assert (round(shares[0], 1), round(shares[-1], 1)) == (1.3, 3.3)


def test_a_grid_search_tries_every_triple_once_and_ends(tmp_path):
    fake = fake_job(tmp_path, trials=400, space=SPACE, strategy=NamedStrategy("grid"), objective=Accuracy())
    status = search(fake, InProcess())
    assert status.finished == genomes.count(SPACE).networks
    assert status.ending.endswith("had all been tried before")
    best = max(genomes.all_genomes(SPACE), key=value)
    assert status.best.genome == best


BAD = {
    "phi = 0": "phi must be a number other than 0, not 0",
    'phi = "1"': "phi must be a number other than 0",
    "phi = 40": "phi 40 is far beyond what can be built",
    "tolerance = -1": "tolerance must be a number above 0",
    "alpha = [0.5, 1.0]": "alpha must be a number of at least 1",
    "alpha = 1.0\nbeta = 1.0\ngamma = [1.0, 1.05]": "has no valid genome.*no alpha brings",
    "alfa = 1.2": "unknown key 'alfa'; did you mean 'alpha'",
    "size_multiple = 0": "size_multiple must be a whole number above 0",
}


@pytest.mark.parametrize("keys", BAD)
def test_a_bad_space_is_refused(tmp_path, keys):
    with pytest.raises(effkeras.EffkerasError, match=r"own\.toml: .*" + BAD[keys]):
        space_from(tmp_path, f'kind = "scaling"\nbase = "efficientnet-b0"\n{keys}\n')


def test_a_network_without_factors_is_refused(tmp_path):
    with pytest.raises(effkeras.EffkerasError, match=r"own\.toml: squeezenet-1\.1 cannot be scaled"):
        space_from(tmp_path, 'kind = "scaling"\nbase = "squeezenet-1.1"\n')
