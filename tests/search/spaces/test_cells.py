"""Spaces of cells: cells that differ in order only have one genome, and published cells are members."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.space_files import operations, raw_genomes, shipped, space_from

import effkeras
from effkeras.definitions import genotype
from effkeras.search import genomes
from effkeras.search.spaces.cell_genes import CellGenes

OPS = ("identity", "sep3x3", "max3x3")
SMALL = [
    CellGenes("normal", 1, OPS, "choose"),
    CellGenes("normal", 2, OPS, "loose"),
    CellGenes("normal", 2, OPS[:2], "choose"),
    CellGenes("normal", 3, OPS[:1], "choose"),
    CellGenes("normal", 3, OPS[:1], "all"),
]
FIVE = CellGenes("normal", 5, OPS, "choose")


def by_cell(cell):
    """Raw genomes in ascending order by what `effkeras.definitions.genotype` says that they are."""
    groups = defaultdict(list)
    for part in raw_genomes(cell):
        groups[genotype.canonical(cell.cell(part))].append(part)
    return groups


@pytest.mark.parametrize("cell", SMALL, ids=lambda cell: f"{cell.nodes}-{cell.output}")
def test_a_cell_has_the_least_genome_of_all_orders(cell):
    for same in by_cell(cell).values():
        for part in same:
            assert cell.canonical(part) == same[0]
            assert cell.copies(part) == len(same)


@st.composite
def reordered(draw):
    """A genome of five nodes, and the same cell with terms and nodes in another order."""
    part = tuple(draw(st.integers(0, len(gene.choices) - 1)) for gene in FIVE.genes)
    nodes = [part[start : start + 4] for start in range(0, 20, 4)]
    order, numbers = [], {0: 0, 1: 1}
    while len(order) < 5:
        ready = [i for i in range(5) if i not in order and {*nodes[i][:2]} <= numbers.keys()]
        order.append(draw(st.sampled_from(ready)))
        numbers[order[-1] + 2] = len(order) + 1
    other = []
    for index in order:
        one, two, left, right = nodes[index]
        terms = [(numbers[one], left), (numbers[two], right)]
        (one, left), (two, right) = draw(st.permutations(terms))
        other += [one, two, left, right]
    kept = {numbers[index + 2] for index, bit in enumerate(part[21:]) if bit}
    return part, (*other, part[20], *(int(index + 2 in kept) for index in range(4)))


@settings(deadline=None)
@given(reordered())
def test_order_does_not_matter(pair):
    one, other = pair
    assert FIVE.canonical(one) == FIVE.canonical(other) <= min(pair)
    assert FIVE.canonical(FIVE.canonical(one)) == FIVE.canonical(one)
    assert FIVE.copies(one) == FIVE.copies(other)
    assert genotype.canonical(FIVE.cell(one)) == genotype.canonical(FIVE.cell(FIVE.canonical(one)))


@settings(deadline=None)
@given(reordered())
def test_every_genome_is_a_cell(pair):
    for part in pair:
        assert FIVE.encode(genotype.checked(FIVE.cell(part))) == FIVE.canonical(part)


def test_one_node_of_eight_operations_makes_136_cells(tmp_path):
    """The PNASNet paper's own count, section 4.2."""
    space = shipped("pnasnet-cells")
    ops = list(space.cells[0].ops)
    text = f'kind = "cells"\nbase = "pnasnet-mobile"\nnodes = 1\noutput = "all"\nops = {ops}\n'
    assert genomes.count(space_from(tmp_path, text)) == genomes.Count(136, exact=True)


def test_pnasnet_s_space_is_as_large_as_the_paper_says():
    space = shipped("pnasnet-cells")
    assert genomes.raw_count(space) == pytest.approx(5.6e14, rel=0.01)
    counted = genomes.count(space, draws=1000)
    assert not counted.exact
    assert 1e12 < counted.networks < 1e13  # "about 10^12" of them unique


def test_the_estimate_is_near_the_count(tmp_path, monkeypatch):
    own = 'nodes = 2\nreduction = false\nops = ["identity", "sep3x3"]\noutput = "choose"'
    space = space_from(tmp_path, f'kind = "cells"\nbase = "nasnet-cifar"\n{own}\n')
    exact = genomes.count(space)
    assert exact == genomes.Count(len(by_cell(space.cells[0])), exact=True)
    monkeypatch.setattr(genomes, "_COUNTED", 0)
    assert genomes.count(space, draws=1500).networks == pytest.approx(exact.networks, rel=0.08)


def test_nasnet_a_is_a_member():
    space, cifar = shipped("nasnet-cells"), effkeras.spec("nasnet-cifar")
    published = cifar.replace(network=dataclasses.replace(cifar.network, repeats=2))
    member = space.spec(space.encode(published))
    for name in ("normal", "reduction"):
        cells = (genotype.decode(getattr(spec.network, name)) for spec in (member, published))
        assert len({genotype.canonical(cell) for cell in cells}) == 1
    assert len(operations(member)) == len(operations(published))
    assert space.encode(cifar) is None  # six repeats


def test_pnasnet_5_is_a_member():
    space = shipped("pnasnet-cells")
    cell = genotype.decode(effkeras.spec("pnasnet-mobile").network.normal)
    part = space.cells[0].encode(cell)
    assert genotype.canonical(genotype.decode(space.spec(part).network.normal)) == genotype.canonical(cell)


@pytest.mark.parametrize(
    "texts",
    [
        ["sep3x3(h) + p"],
        ["sep3x3(h) + p", "n0 + conv1x1(h)"],
        ["sep3x3(h) + p", "n0 + h", "concat(n0, n1)"],
        ["sep3x3(h) + p", "n0 + h", "concat(p, n1)"],
    ],
)
def test_other_cells_are_no_members(texts):
    assert SMALL[1].encode(genotype.decode(texts)) is None


def test_what_nothing_takes_is_put_out():
    cell = CellGenes("normal", 2, OPS, "loose")
    shown = [
        genotype.encode(cell.cell(part))[-1] for part in ((1, 1, 0, 0, 1, 1, 0, 0), (0, 0, 0, 0, 0, 2, 0, 0))
    ]
    assert shown == ["concat(h, n0, n1)", "concat(n1)"]


def test_figures_of_the_network_can_be_chosen(tmp_path):
    figures = "repeats = [1, 2]\nfilters = [8, 16]\nstem = 8\nsize = [32, 48]"
    text = f'kind = "cells"\nbase = "nasnet-mobile"\nnodes = 2\n{figures}\n'
    space = space_from(tmp_path, text)
    assert [gene.name for gene in space.genes[:4]] == ["size", "repeats", "filters", "normal.n0.in1"]
    spec = space.spec((1, 1, 0, *[0] * 16))
    assert (spec.input.size, spec.network.repeats, spec.network.filters, spec.network.stem) == (
        (48, 48),
        2,
        8,
        8,
    )
    assert space.encode(spec) == (1, 1, 0, *[0] * 16)
    assert space.describe((1, 1, 0, *[0] * 16)) == [
        "size 48, repeats 2, filters 8",
        "normal: h + h",
        "normal: h + h",
        "normal: concat(n0, n1)",
        "reduction: h + h",
        "reduction: h + h",
        "reduction: concat(n0, n1)",
    ]


def test_genomes_of_twin_nodes_are_one():
    cell = CellGenes("normal", 3, OPS[:1], "loose")
    takes_first, takes_second = (0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0), (0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0)
    assert cell.canonical(takes_first) == cell.canonical(takes_second)


BAD = {
    "nodes = 0": "nodes must be a whole number above 0, not 0",
    "nodes = 11": "nodes must be at most 10, not 11",
    'ops = ["sep3"]': "ops: unknown operation 'sep3'; did you mean 'sep3x3'",
    'ops = ["sep3x3", "sep3x3"]': "ops lists 'sep3x3' twice",
    "ops = []": "ops must be a list of operations, at least one",
    "ops = [3]": "ops: unknown operation 3",
    'output = "none"': "output must be one of loose, all, choose, not 'none'",
    'reduction = "yes"': "reduction must be true or false",
    "filters = [8, 1]": "filters = 1: .*1 filters are too few",
    "repeats = [0, 1]": "repeats must be a whole number above 0",
    "node = 5": "unknown key 'node'; did you mean 'nodes'",
}


@pytest.mark.parametrize("keys", BAD)
def test_a_bad_space_is_refused(tmp_path, keys):
    with pytest.raises(effkeras.EffkerasError, match=r"own\.toml: " + BAD[keys]):
        space_from(tmp_path, f'kind = "cells"\nbase = "nasnet-mobile"\n{keys}\n')


def test_another_base_is_refused(tmp_path):
    with pytest.raises(effkeras.EffkerasError, match="efficientnet-b0 is no network of cells"):
        space_from(tmp_path, 'kind = "cells"\nbase = "efficientnet-b0"\n')


def test_a_mutation_changes_one_cell():
    space, random = shipped("nasnet-cells"), np.random.default_rng(0)
    genome = genomes.sample(space, random)
    for _ in range(30):
        child = genomes.mutate(space, genome, random)
        assert space.canonical(child) == child != genome
        halves = [spec.network for spec in map(space.spec, (genome, child))]
        assert sum(one != other for one, other in zip(*map(_cells, halves), strict=True)) == 1


def _cells(network):
    return list(itertools.chain([network.normal], [network.reduction]))
