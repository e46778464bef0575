"""Tables of block latencies: what they add up, what they lack, and how far they can be believed.

Rank correlations are compared with those of scipy, ties included.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.short_trials import BlockSpace, block_net
from support.tiny import tiny_detector

from effkeras.graph.counting import count
from effkeras.search.evaluation.block_tables import (
    TableCheck,
    distinct,
    draw_specs,
    kendall_tau,
    places_of,
    predicted_ms,
    spearman,
)
from effkeras.search.evaluation.costs import cost_of
from effkeras.search.evaluation.settings import ArtifactSettings
from effkeras.support.errors import EffkerasError
from effkeras.support.measurements import BlockLatency, BlockShape, BlockTable, read_blocks, write_blocks

SPEC = block_net("r2_k3_s2_e3_i8_o16_se0.25", "r1_k5_s1_e1_i16_o16")
FIRST, SECOND, THIRD = (
    "r1_k3_s2_e3_i8_o16_se0.25_re6",
    "r1_k3_s1_e3_i16_o16_se0.25_re6",
    "r1_k5_s1_e1_i16_o16_re6",
)


def table_of(spec, milliseconds=lambda index: 1.0 + index) -> BlockTable:
    pieces = [place.piece for place in distinct([spec])]
    blocks = [
        BlockShape(f"b{i}", "float32", (one.inputs,), (one.outputs,), 1, 1, one.stage)
        for i, one in enumerate(pieces)
    ]
    times = [BlockLatency(f"b{i}", "XNNPACK", 1, 0.1, 9.0, milliseconds(i), 9.0) for i in range(len(pieces))]
    return BlockTable("trial", "made by hand", {}, {}, 50, tuple(blocks), tuple(times))


def test_a_network_is_cut_into_its_blocks():
    pieces = [place.piece for place in places_of(block_net(*SPEC.network.blocks, squeeze_excite=True))]
    assert [piece.stage for piece in pieces][1:-1] == [FIRST, SECOND, THIRD]
    assert pieces[0].inputs == (1, 32, 32, 3)
    assert [piece.outputs for piece in pieces] == [
        (1, 16, 16, 8),
        (1, 8, 8, 16),
        (1, 8, 8, 16),
        (1, 8, 8, 16),
        (1, 10),
    ]


def test_the_pieces_are_those_of_the_built_model():
    from effkeras.building.models import build_spec

    model = build_spec(SPEC)
    for place in places_of(SPEC)[1:-1]:
        assert model.get_layer(f"{place.block.name}_project_bn").output.shape[1:] == place.piece.outputs[1:]


def test_the_prediction_is_the_sum_of_medians(tmp_path):
    write_blocks(tmp_path / "blocks.toml", table_of(SPEC))
    name = f"table:{tmp_path / 'blocks.toml'}"
    assert cost_of(SPEC, [name]) == {name: 1 + 2 + 3 + 4 + 5}


def test_an_equal_block_is_looked_up_twice():
    twice = block_net("r3_k3_s2_e3_i8_o16_se0.25", "r1_k5_s1_e1_i16_o16")
    assert len(distinct([twice])) == 5
    assert predicted_ms(twice, table_of(SPEC)) == 1 + 2 + 3 + 3 + 4 + 5


@pytest.mark.parametrize(
    "other",
    [
        block_net("r2_k5_s2_e3_i8_o16_se0.25", "r1_k5_s1_e1_i16_o16"),
        block_net(*SPEC.network.blocks, activation="swish"),
        block_net(*SPEC.network.blocks, head=24),
        SPEC.replace(classes=3, labels=()),
    ],
    ids=["kernel", "activation", "head", "classes"],
)
def test_a_table_that_lacks_a_block_says_which(other):
    with pytest.raises(EffkerasError, match=r"the table of trial has no (r1_k5|stem_swish|head_relu6)"):
        predicted_ms(other, table_of(SPEC))


def test_a_table_of_other_threads_is_no_use():
    with pytest.raises(EffkerasError, match="on 2 threads"):
        predicted_ms(SPEC, table_of(SPEC), threads=2)


def test_a_detector_has_no_table():
    with pytest.raises(EffkerasError, match="use latency_ms"):
        predicted_ms(tiny_detector(), table_of(SPEC))


def test_a_missing_table_is_an_error(tmp_path):
    with pytest.raises(EffkerasError, match="cannot read"):
        cost_of(SPEC, [f"table:{tmp_path / 'nosuch.toml'}"])


def test_a_check_tells_error_bias_and_order():
    check = TableCheck(("a", "b", "c"), (1.1, 2.2, 3.3), (1.0, 2.0, 3.0))
    assert (check.error, check.bias) == (pytest.approx(0.1), pytest.approx(1.1))
    assert check.kendall == check.spearman == 1


def test_a_space_is_drawn_without_repeats_of_chance():
    first, again = (draw_specs(BlockSpace(), BlockSpace().spec, 5) for _ in range(2))
    assert first == again
    assert len({spec.network.blocks for spec in first}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_table_is_made_and_checked(tmp_path, precision):
    from effkeras.search.evaluation.artifacts import check_table, write_table

    settings = ArtifactSettings(precision, runs=5)
    spec = block_net("r1_k3_s2_e3_i8_o16_se0.25")
    made = write_table(tmp_path / "blocks.toml", [spec, spec], settings, "trial")
    assert read_blocks(tmp_path / "blocks.toml") == made
    assert {shape.dtype for shape in made.blocks} == {precision}
    assert [shape.name for shape in made.blocks] == ["0.stem", "1.block0", "2.head"]
    assert sum(shape.multiply_adds for shape in made.blocks) == count(spec).macs
    check = check_table(made, [spec], settings)
    assert check.predicted[0] == pytest.approx(sum(one.median_ms for one in made.latencies))
    assert 0 < check.bias < 100


pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20)


@given(pairs)
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_they_are_scipys(values):
    from scipy import stats

    first, second = zip(*values, strict=True)
    for ours, theirs in ((kendall_tau, stats.kendalltau), (spearman, stats.spearmanr)):
        found, wanted = ours(first, second), float(theirs(first, second).statistic)
        assert found == pytest.approx(wanted, abs=1e-9) or (math.isnan(found) and math.isnan(wanted))


def test_the_ends_of_the_scale():
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == spearman([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == spearman([1, 2, 3], [3, 2, 1]) == -1
    assert math.isnan(kendall_tau([1, 1], [1, 2]))
