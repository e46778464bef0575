from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.handmade import Op, Tensor, flatbuffer
from support.op_cases import conv, image, unary

from effkeras import EffkerasError
from effkeras.litert.nodes import nodes
from export.preflight import check_for
from export.preflight.judgement import partitions


def line(*names: str, dtype: str = "int8") -> bytes:
    """Operators one after the other."""
    tensors = [image(dtype=dtype) for _ in range(len(names) + 1)]
    return flatbuffer(*(Op(name, [tensors[i]], [tensors[i + 1]]) for i, name in enumerate(names)))


def statuses(content: bytes, target: str = "edgetpu") -> list[str]:
    return [one.status for one in check_for(content, target).verdicts]


def test_the_edge_tpu_takes_what_comes_before_the_first_cut():
    found = check_for(line("RELU", "RELU6", "ABS", "TANH", "ABS", "TANH"), "edgetpu")
    assert [one.status for one in found.verdicts] == [
        "maps",
        "maps",
        "does not map",
        "after the partition",
        "does not map",
        "after the partition",
    ]
    assert (found.passed, found.pieces, found.end.index) == (False, 3, 2)
    assert found.op_share == 2 / 6
    assert "ends at ABS" in found.summary()


def test_it_begins_behind_what_stands_before():
    content = line("ABS", "RELU", "TANH", "ABS", "RELU")
    assert statuses(content)[:3] == ["does not map", "maps", "maps"]


def test_what_nothing_unsupported_leads_to_is_in_the_first_part_wherever_it_stands():
    source, left, right = image(), image(), image()
    branches = flatbuffer(
        unary("ABS", source, left),
        Op("RELU", [left], [image()]),
        Op("TANH", [source], [right]),
        Op("RELU6", [right], [image()]),
    )
    assert statuses(branches) == ["does not map", "after the partition", "maps", "maps"] or statuses(
        branches
    ) == ["does not map", "maps", "maps", "maps"]


def test_a_gpu_takes_the_largest_part():
    wide = conv("float32")
    first, last = Tensor((1, 8, 8, 4), "float32"), image(dtype="float32")
    content = flatbuffer(
        Op("RELU", [first], [image(dtype="float32")]),
        Op("NON_MAX_SUPPRESSION_V5", [image(dtype="float32")], [last]),
        Op(wide.name, [last, *wide.inputs[1:]], wide.outputs, wide.kind, wide.options),
    )
    found = check_for(content, "gpu")
    assert [one.status for one in found.verdicts] == ["after the partition", "does not map", "maps"]
    assert found.mac_share == 1
    assert found.memory is None


def test_multiply_adds_and_weights_of_the_partition():
    first, second = conv(), conv()
    cut = unary("ABS", first.outputs[0], second.inputs[0])
    found = check_for(flatbuffer(first, cut, second), "edgetpu")
    assert sum(one.macs for one in found.verdicts) == 2 * 8 * 8 * 4 * 4
    assert found.mac_share == 0.5
    assert found.memory.weights == 16 + 4 * 4  # a kernel of int8, a bias of int32


def test_weights_beyond_8_mib_stream_in():
    kernel = Tensor.weights(3000, 3000)
    dense = Op("FULLY_CONNECTED", [image(1, 3000), kernel, None], [image(1, 3000)], "FullyConnectedOptions")
    memory = check_for(flatbuffer(dense), "edgetpu").memory
    assert (memory.weights, memory.cached, memory.streamed) == (9_000_000, 2**23, 9_000_000 - 2**23)
    assert "0.6 MB of weights stream in" in check_for(flatbuffer(dense), "edgetpu").summary()


def test_weights_that_operators_share_count_once():
    kernel = Tensor.weights(4, 1, 1, 4)
    first = conv(kernel=kernel)
    again = Op("CONV_2D", [first.outputs[0], *first.inputs[1:]], [image()], first.kind, first.options)
    assert check_for(flatbuffer(first, again), "edgetpu").memory.weights == 16 + 4 * 4


def test_an_operator_without_its_inputs_is_damage():
    bare = Op("CONV_2D", [], [image()], "Conv2DOptions")
    with pytest.raises(EffkerasError, match=r"operator 0 \(CONV_2D\) lacks what it needs"):
        check_for(flatbuffer(bare), "edgetpu")


def test_operators_that_wait_for_each_other_are_in_no_part():
    one, other = image(), image()
    content = flatbuffer(Op("RELU", [one], [other]), Op("TANH", [other], [one]))
    assert statuses(content) == ["after the partition"] * 2


def test_an_empty_graph_does_not_pass():
    assert not check_for(flatbuffer(), "edgetpu").passed


@st.composite
def graphs(draw):
    """Operators in the order of execution, each reading some that come before, some of them on the device."""
    count = draw(st.integers(1, 12))
    reads = [draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set() for i in range(count)]
    return reads, draw(st.lists(st.booleans(), min_size=count, max_size=count))


def built(reads: list[set[int]]) -> bytes:
    outputs = [image() for _ in reads]
    entry = image()
    return flatbuffer(
        *(Op("ADD", [entry, *(outputs[i] for i in sorted(of))], [outputs[at]]) for at, of in enumerate(reads))
    )


@given(graphs())
def test_partitions_cut_as_few_pieces_as_the_order_allows(graph):
    reads, supported = graph
    pieces = partitions(nodes(built(reads)), supported)
    place = {index: at for at, piece in enumerate(pieces) for index in piece.operators}
    assert sorted(place) == list(range(len(reads)))
    assert sum(len(piece.operators) for piece in pieces) == len(reads)
    for at, of in enumerate(reads):
        assert pieces[place[at]].taken == supported[at]
        assert all(place[before] <= place[at] for before in of)
    assert all(one.taken != other.taken for one, other in itertools.pairwise(pieces))


@given(graphs())
def test_the_first_partition_is_all_that_depends_on_nothing_else(graph):
    reads, supported = graph
    ancestors: list[set[int]] = []
    for of in reads:
        ancestors.append(of.union(*(ancestors[before] for before in of)))
    kind = supported[0]
    alone = {
        i for i, up in enumerate(ancestors) if supported[i] == kind and all(supported[j] == kind for j in up)
    }
    assert partitions(nodes(built(reads)), supported)[0].operators == alone
