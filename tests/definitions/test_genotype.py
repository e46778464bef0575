"""Genotypes are read exactly, written back the same, and what is wrong with one is named."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import effkeras
from effkeras.definitions.genotype import (
    FIRST_NODE,
    OPERATIONS,
    Branch,
    Cell,
    H,
    P,
    canonical,
    checked,
    decode,
    encode,
    map_name,
    unused_nodes,
)
from effkeras.support.errors import EffkerasError

N0, N1 = FIRST_NODE, FIRST_NODE + 1


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    """Any valid cell of up to six nodes."""
    nodes = []
    for index in range(draw(st.integers(1, 6))):
        branch = st.builds(
            Branch, st.sampled_from(sorted(OPERATIONS)), st.integers(0, FIRST_NODE + index - 1)
        )
        nodes.append((draw(branch), draw(branch)))
    if H not in {branch.source for node in nodes for branch in node}:
        nodes[0] = (Branch("sep3x3", H), nodes[0][1])
    ends = unused_nodes(nodes)
    others = [number for number in range(FIRST_NODE + len(nodes)) if number not in ends]
    more = draw(st.lists(st.sampled_from(others), unique=True)) if others else []
    return checked(Cell(tuple(nodes), tuple(draw(st.permutations([*ends, *more])))))


@given(cells())
def test_what_is_written_is_read_back(cell):
    assert decode(encode(cell)) == cell


@given(cells(), st.randoms(use_true_random=False))
def test_equal_cells_have_one_canonical_form(cell, chance):
    shuffled = _shuffled(cell, chance)
    assert canonical(shuffled) == canonical(cell)
    assert checked(canonical(cell)) == canonical(canonical(cell))
    assert sorted(branch.op for node in canonical(cell).nodes for branch in node) == sorted(
        branch.op for node in cell.nodes for branch in node
    )


def _shuffled(cell: Cell, chance: random.Random) -> Cell:
    """The same graph with its nodes, terms and outputs in another order."""
    numbers, left = {H: H, P: P}, list(range(len(cell.nodes)))
    nodes = []
    while left:
        ready = [i for i in left if all(branch.source in numbers for branch in cell.nodes[i])]
        index = chance.choice(ready)
        left.remove(index)
        terms = [Branch(branch.op, numbers[branch.source]) for branch in cell.nodes[index]]
        chance.shuffle(terms)
        numbers[FIRST_NODE + index] = FIRST_NODE + len(nodes)
        nodes.append(tuple(terms))
    outputs = [numbers[number] for number in cell.outputs]
    chance.shuffle(outputs)
    return Cell(tuple(nodes), tuple(outputs))


def test_other_cells_have_other_canonical_forms():
    texts = [
        ("sep3x3(h) + p",),
        ("sep3x3(h) + h",),
        ("sep3x3(p) + h",),
        ("sep5x5(h) + p",),
        ("sep3x3(h) + p", "concat(p, n0)"),
        ("sep3x3(h) + p", "n0 + p"),
        ("sep3x3(h) + p", "sep3x3(h) + p", "n0 + n1"),
        ("sep3x3(h) + p", "sep3x3(h) + p", "n0 + n0", "concat(n1, n2)"),
    ]
    assert len({canonical(decode(text)) for text in texts}) == len(texts)


def test_a_cell_is_read():
    cell = decode(["sep5x5(h) + sep3x3(p)", "avg3x3( n0 )+h", "concat(p, n1)"])
    assert cell.nodes[0] == (Branch("sep5x5", H), Branch("sep3x3", P))
    assert cell.nodes[1] == (Branch("avg3x3", N0), Branch("identity", H))
    assert cell.outputs == (P, N1)
    assert cell.used == {H, P, N0, N1}


def test_without_concat_the_output_is_what_no_node_takes():
    cell = decode(["sep3x3(h) + p", "sep3x3(n0) + h", "max3x3(n0) + identity(p)"])
    assert cell.outputs == (FIRST_NODE + 1, FIRST_NODE + 2)
    assert encode(cell)[-2:] == ("max3x3(n0) + p", "concat(n1, n2)")


@pytest.mark.parametrize("name", ["nasnet-mobile", "pnasnet-mobile"])
def test_the_zoo_is_written_as_encode_writes_it(name):
    network = effkeras.spec(name).network
    for genotype in filter(None, (network.normal, network.reduction)):
        assert encode(decode(genotype)) == genotype


def test_maps_are_named():
    assert [map_name(number) for number in range(4)] == ["h", "p", "n0", "n1"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "a cell needs a node"),
        (["concat(h)"], "a cell needs a node"),
        (["sep3x3(h)"], "node n0 'sep3x3(h)' must add two operations"),
        (["sep3x3(h) + p + p"], "must add two operations"),
        (["sep3x4(h) + p"], "node n0 'sep3x4(h) + p': unknown operation 'sep3x4'; did you mean 'sep3x3'?"),
        (["none(h) + p"], "unknown operation 'none'"),
        (["sep3x3(n0) + h"], "node n0 'sep3x3(n0) + h' takes itself: that is a cycle; it may take h, p"),
        (["n1 + h", "sep3x3(n0) + p"], "node n0 'n1 + h' takes n1, which comes later: that is a cycle"),
        (["h + p", "h + sep3x3(n7)"], "node n1 'h + sep3x3(n7)': there is no n7 in a cell of 2 nodes"),
        (["sep3x3(h) + q"], "'sep3x3(h) + q': 'q' is not a map"),
        (["sep3x3(n00) + h"], "'n00' is not a map"),
        (["sep3x3(h + p"], "'sep3x3(h' is not understood"),
        (["sep3x3() + p"], "'sep3x3()' is not understood"),
        (["sep3x3(h) + "], "'' is not understood"),
        (["p + p"], "no node takes h"),
        (["h + p", "h + p", "concat(n0)"], "n1 is unused"),
        (["h + p", "concat(n0, n0)"], "'concat(n0, n0)' names n0 twice"),
        (["h + p", "concat(n0, n4)"], "'concat(n0, n4)': there is no n4"),
        (["h + p", "concat()"], "'concat()': '' is not a map"),
        (["concat(n0)", "h + p"], "must add two operations"),
    ],
)
def test_a_mistake_is_named(texts, message):
    with pytest.raises(EffkerasError, match=re.escape(message)) as caught:
        decode(texts)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text("hpn01 +()sepx3conat,", max_size=16), max_size=3))
def test_any_text_is_read_or_refused(texts):
    try:
        cell = decode(texts)
    except EffkerasError:
        return
    assert decode(encode(cell)) == cell
