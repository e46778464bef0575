"""Block strings are read exactly and written back the same."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effkeras.definitions.blocks import Stage, decode, encode, with_width
from effkeras.support.errors import EffkerasError

KERNEL = st.integers(0, 20).map(lambda half: 2 * half + 1)
PLAIN = st.builds(
    Stage,
    kernels=st.one_of(
        KERNEL.map(lambda kernel: (kernel,)), st.lists(KERNEL, min_size=2, max_size=5).map(tuple)
    ),
    outputs=st.integers(1, 10**7),
    inputs=st.integers(1, 10**7),
    repeats=st.integers(1, 99),
    stride=st.sampled_from([1, 2]),
    expand=st.one_of(st.integers(1, 12).map(float), st.floats(1e-6, 1e8)),
    squeeze=st.one_of(st.sampled_from([0.0, 0.25, 1 / 24, 1.0]), st.floats(0, 1)),
    skip=st.booleans(),
    expand_groups=st.integers(1, 4),
    project_groups=st.integers(1, 4),
    activation=st.sampled_from(["", "swish", "hard_swish", "relu", "relu6"]),
)
FUSED = PLAIN.map(lambda stage: dataclasses.replace(stage, kernels=stage.kernels[:1], fused=True))
STAGES = st.one_of(PLAIN, FUSED)


MIXED = Stage((3, 5, 7), 80, 40, 1, 2, 6.0, 0.25, expand_groups=2, project_groups=2, activation="swish")


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("r2_k3_s2_e6_i16_o24_se0.25", Stage((3,), 24, 16, 2, 2, 6.0, 0.25)),
        ("r1_k5_s11_e1_i32_o16", Stage((5,), 16, 32, 1, 1, 1.0, 0.0)),
        ("r3_k3_s22_e4_i8_o8_noskip", Stage((3,), 8, 8, 3, 2, 4.0, 0.0, skip=False)),
        ("o24_i16_k7", Stage((7,), 24, 16)),
        ("k3_i16_o24_e2.5", Stage((3,), 24, 16, expand=2.5)),
        ("k3.5.7_a1.1_p1.1_s22_e6_i40_o80_se0.25_sw", MIXED),
        ("r2_k3_s2_e4_i16_o32_c1", Stage((3,), 32, 16, 2, 2, 4.0, fused=True)),
        ("k3_i16_o24_a1_p1_hs", Stage((3,), 24, 16, activation="hard_swish")),
        ("se0_k1_i1_o1", Stage((1,), 1, 1)),
    ],
)
def test_a_block_string_is_read(text, stage):
    assert decode(text) == stage


def test_a_stage_is_written_like_the_papers_write_it():
    assert encode(Stage((3,), 24, 16, 2, 2, 6.0, 0.25)) == "r2_k3_s2_e6_i16_o24_se0.25"
    assert encode(Stage((5,), 16, 32, skip=False)) == "r1_k5_s1_e1_i32_o16_noskip"


@given(STAGES)
def test_what_is_written_is_read_back(stage):
    assert decode(encode(stage)) == stage


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not understood"),
        ("k3_i16_o24_x5", "'x5' is not understood"),
        ("k3_i16_o24_c2", "'c2' is not understood"),
        ("k3_i16_o24_sw_hs", "'hs' sets activation a second time"),
        ("k3.5_i16_o24_c1", "a fused block has one kernel"),
        ("k3_i16_o24_e1.2.3", "'e1.2.3' is not understood"),
        ("k3_i16_o24_r", "'r' is not understood"),
        ("k3_i16_o24_r-1", "'r-1' is not understood"),
        ("k3_i16_o24_e1e3", "'e1e3' is not understood"),
        ("k3_i16_o24_", "'' is not understood"),
        ("K3_i16_o24", "'K3' is not understood"),
        ("k3 _i16_o24", "'k3 ' is not understood"),
        ("k3_i16_o24_skip", "'skip' is not understood"),
        ("k3_i16.5_o24", "'i16.5' must be a whole number"),
        ("k3_i16_o24_r1.0", "'r1.0' must be a whole number"),
        ("k3_i16_o24_k3", "'k3' sets kernels a second time"),
        ("k3_i16_o24_noskip_noskip", "'noskip' sets skip a second time"),
        ("i16_o24", "kernels missing"),
        ("k3", "inputs, outputs missing"),
        ("k3_i16_o24_s3", "the stride must be 1 or 2"),
        ("k3_i16_o24_s12", "the stride must be 1 or 2"),
        ("k3_i16_o24_s0", "the stride must be 1 or 2"),
        ("k3.4_i16_o24", "every kernel must be odd"),
        ("k0_i16_o24", "every kernel must be odd"),
        ("k3_i0_o24", "inputs must be above 0"),
        ("k3_i16_o0", "outputs must be above 0"),
        ("k3_i16_o24_r0", "repeats must be above 0"),
        ("k3_i16_o24_r1000000000", "repeats are more than 1000"),
        ("k3_i16_o24_e0", "expand must be above 0"),
        ("k3_i16_o24_se1.5", "se must lie between 0 and 1"),
    ],
)
def test_a_malformed_string_names_what_is_wrong(text, message):
    with pytest.raises(EffkerasError, match=re.escape(message)) as caught:
        decode(text)
    assert f"block string {text!r}" in str(caught.value)


@given(st.text("rkseioapcwh0123456789._-", max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        stage = decode(text)
    except EffkerasError:
        return
    assert decode(encode(stage)) == stage


def test_other_widths_leave_the_rest_alone():
    stage = Stage((3,), 24, 16, 2, 2, 6.0, 0.25, skip=False)
    assert with_width(stage, 8, 40, 5) == Stage((3,), 40, 8, 5, 2, 6.0, 0.25, skip=False)


def test_six_repeats_are_no_activation():
    stage = decode("r6_k3_s1_e6_i16_o24")
    assert (stage.repeats, stage.activation) == (6, "")
    assert decode("r1_k3_s1_e6_i16_o24_re6").activation == "relu6"
