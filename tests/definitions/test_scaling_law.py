"""Compound scaling: the paper's factors, its grid, its table in real multiply-adds, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import effkeras
from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.definitions.scaling import (
    Coefficients,
    Scaling,
    compound,
    grid,
    with_phi,
    with_scaling,
    with_width,
)
from effkeras.graph.counting import count
from effkeras.support.errors import EffkerasError

# phi: depth, width and side of B0's 224 pixels, computed from the paper's alpha, beta, gamma
PHIS = {
    1: (1.2, 1.1, 258),
    2: (1.44, 1.21, 296),
    3: (1.73, 1.33, 341),
    4: (2.07, 1.46, 392),
    5: (2.49, 1.61, 451),
    6: (2.99, 1.77, 518),
    7: (3.58, 1.95, 596),
}

# Paper table 7 (B0 scaled): factors, the FLOPs it prints in billions, and multiply-adds in millions and
# parameters in millions counted on the official network.
TABLE_7 = {
    "baseline": (Scaling(), 0.4, 385.8, 5.3),
    "depth": (Scaling(depth=4), 1.8, 1575.1, 20.1),
    "width": (Scaling(width=2), 1.8, 1450.0, 18.1),
    "resolution": (Scaling(resolution=2), 1.9, 1537.5, 5.3),
    "compound": (Scaling(1.4, 1.2, 1.3), 1.8, 1800.1, 12.2),
}


def macs(spec: ModelSpec) -> int:
    return count(spec).macs


@pytest.mark.parametrize("phi", PHIS)
def test_factors_are_the_papers_coefficients_to_the_power_of_phi(phi):
    depth, width, side = PHIS[phi]
    factors = compound(phi)
    assert (factors.depth, factors.width) == pytest.approx((depth, width), abs=0.005)
    assert round(224 * factors.resolution) == side
    assert with_phi(effkeras.spec("b0"), phi, size_multiple=1).input.size == (side, side)


def test_one_step_is_the_coefficients_and_none_is_nothing():
    assert effkeras.compound(1, 1.3, 1.0, 1.05) == Scaling(1.3, 1.0, 1.05)
    assert compound(0) == Scaling(1, 1, 1)
    assert compound(np.float32(1)) == compound(1)


@given(st.floats(-7, 7), st.floats(-7, 7))
def test_steps_multiply(one, other):
    both, first, second = compound(one + other), compound(one), compound(other)
    for field in dataclasses.fields(Scaling):
        product = getattr(first, field.name) * getattr(second, field.name)
        assert getattr(both, field.name) == pytest.approx(product)


@pytest.mark.parametrize("row", TABLE_7)
def test_the_papers_table_7_in_multiply_adds(row):
    scaling, billions, mega, parameters = TABLE_7[row]
    counts = count(with_scaling(effkeras.spec("b0"), scaling, size_multiple=1))
    assert counts.macs == pytest.approx(mega * 1e6, rel=0.005)
    assert counts.trainable == pytest.approx(parameters * 1e6, rel=0.01)
    assert counts.macs < (billions + 0.05) * 1e9
    # The paper's rows of one dimension cost up to a fifth less than it prints, its compound row what it says.
    assert counts.macs > 0.79 * billions * 1e9
    if row == "compound":
        assert counts.macs == pytest.approx(billions * 1e9, rel=0.005)


@pytest.mark.parametrize(("tolerance", "triples"), [(0.02, 19), (0.05, 39), (0.1, 75)])
def test_the_grid_holds_the_papers_constraint(tolerance, triples):
    found = grid(tolerance)
    assert len(set(found)) == len(found) == triples
    for one in found:
        assert abs(one.alpha * one.beta**2 * one.gamma**2 - 2) <= tolerance + 1e-9
        assert 1 <= min(dataclasses.astuple(one)) <= max(dataclasses.astuple(one)) <= 1.4


def test_the_papers_triple_costs_less_than_twice():
    paper = Coefficients(1.2, 1.1, 1.15)
    assert paper.cost == pytest.approx(1.92027)
    assert paper in grid(0.08)
    assert paper not in grid(0.07)


def test_a_scaled_classifier_is_the_factors_applied():
    spec = with_phi(effkeras.spec("b0"), 1.5)
    factors = compound(1.5)
    assert (spec.network.depth, spec.network.width) == (factors.depth, factors.width)
    assert spec.input.size == (280, 280)  # 224 * 1.15^1.5 = 276.2
    assert spec.network.dropout == 0.2
    assert spec.name == "efficientnet-b0-phi1.5"


def test_sides_become_the_nearest_multiple_each_for_itself():
    base = effkeras.spec("b0")
    base = base.replace(input=dataclasses.replace(base.input, size=(200, 320)))
    assert with_phi(base, 1, size_multiple=32).input.size == (224, 384)  # 230, 368: halves go up
    assert with_phi(base, 1, size_multiple=1).input.size == (230, 368)
    assert with_scaling(base, Scaling(depth=2), size_multiple=32).input.size == (200, 320)


def test_fixed_ends_stay_fixed():
    blocks = effkeras.spec("efficientnet-lite0")
    scaled = with_phi(blocks, 4)
    assert scaled.network.fixed_ends
    assert count(scaled).macs > 8 * macs(blocks)


# arXiv:1911.09070, equations 1 to 3, at D0's 64 channels, 3 cells, 3 layers and 512 pixels.
@pytest.mark.parametrize("phi", range(7))
def test_a_detector_grows_by_the_law_of_its_paper(phi):
    spec = with_phi(effkeras.spec("d0"), phi)
    assert abs(spec.fpn.channels - 64 * 1.35**phi) <= 4
    assert spec.fpn.channels % 8 == 0
    assert spec.fpn.cells == 3 + phi
    assert spec.head.repeats == 3 + phi // 3
    assert spec.input.size == (512 + 128 * phi,) * 2
    assert spec.network.width == pytest.approx(1.1**phi)
    assert spec.network.depth == pytest.approx(1.2**phi)


@pytest.mark.parametrize(("phi", "name"), [(1, "d1"), (3, "d3"), (6, "d6")])
def test_the_published_detectors_lie_near_the_law(phi, name):
    ours, theirs = with_phi(effkeras.spec("d0"), phi), effkeras.spec(name)
    assert (ours.fpn.channels, ours.head.repeats) == (theirs.fpn.channels, theirs.head.repeats)
    assert ours.input.size == theirs.input.size
    assert macs(ours) == pytest.approx(macs(theirs), rel=0.25)


def test_a_detector_takes_a_fraction_of_a_step():
    spec = with_phi(effkeras.spec("d0"), 0.5)
    assert (spec.fpn.channels, spec.fpn.cells, spec.head.repeats) == (72, 4, 3)
    assert spec.input.size == (576, 576)


@pytest.mark.parametrize(
    "name", ["b0", "efficientnet-lite0", "v2-s", "mnasnet-a1", "mixnet-s", "d0", "nasnet-mobile"]
)
@settings(max_examples=15, deadline=None)
@given(phis=st.tuples(st.floats(-2, 7), st.floats(-2, 7)))
def test_a_larger_phi_never_costs_less(name, phis):
    small, large = (count(with_phi(effkeras.spec(name), phi)) for phi in sorted(phis))
    assert small.macs <= large.macs
    assert small.total <= large.total


WIDTHS = {
    "mobilenet-v2": (0.35, 0.5, 0.75, 1.3, 1.4),
    "mobilenet-v3-large": (0.75,),
    "mobilenet-v3-small": (0.75,),
    "mnasnet-a1": (0.35, 0.5, 0.75, 1.4),
}


@pytest.mark.parametrize(("name", "width"), [(name, width) for name in WIDTHS for width in WIDTHS[name]])
def test_a_width_multiplier_gives_the_published_network(name, width):
    ours, theirs = with_width(effkeras.spec(name), width), effkeras.spec(f"{name}-{width:g}")
    assert ours.network == theirs.network
    assert count(ours) == count(theirs)


# tensorflow/tpu mnasnet README: A1 at 224 pixels, millions of parameters and of multiply-adds.
@pytest.mark.parametrize(
    ("width", "parameters", "mega"), [(0.5, 2.1, 105.2), (1.0, 3.9, 315.2), (1.4, 6.1, 591.5)]
)
def test_mnasnets_widths_cost_what_is_published(width, parameters, mega):
    counts = count(with_width(effkeras.spec("mnasnet-a1"), width))
    assert counts.trainable == pytest.approx(parameters * 1e6, rel=0.025)
    assert counts.macs == pytest.approx(mega * 1e6, rel=0.02)


def test_a_detector_is_widened_with_its_pyramid():
    spec = with_width(effkeras.spec("d0"), 0.5)
    assert (spec.network.width, spec.fpn.channels, spec.fpn.cells) == (0.5, 32, 3)


def test_cells_grow_in_number_and_filters():
    nasnet = effkeras.spec("nasnet-mobile")  # 4 @ 44 filters
    scaled = with_phi(nasnet, 1).network
    assert (scaled.repeats, scaled.filters, scaled.stem) == (5, 48, 36)
    half = with_width(nasnet, 0.5).network
    assert (half.repeats, half.filters, half.stem) == (4, 24, 16)
    assert macs(with_width(nasnet, 0.5)) < 0.4 * macs(nasnet)
    pnasnet = effkeras.spec("pnasnet-mobile")  # 3 @ 54 filters, no multiple of 4
    deeper = with_scaling(pnasnet, Scaling(depth=2)).network
    assert (deeper.repeats, deeper.filters) == (6, 54)


@pytest.mark.parametrize("change", [lambda s: with_phi(s, 1.5), lambda s: with_width(s, 0.5)])
def test_what_is_scaled_is_a_definition_of_its_own(change):
    for name in ("b0", "d0"):
        spec = change(effkeras.spec(name))
        assert spec_from_table(tomllib.loads(spec.to_toml()), "file") == spec
        assert spec.published is None
        assert spec.weights == {}
        assert spec.name != effkeras.spec(name).name


def test_nothing_changes_at_phi_0_and_width_1():
    for spec in (effkeras.spec("b2"), effkeras.spec("d7x")):
        assert with_phi(spec, 0) is spec
        assert with_width(spec, 1) is spec
        assert with_scaling(spec, Scaling()) is spec


def test_other_coefficients_are_in_the_name():
    spec = with_phi(effkeras.spec("b0"), 1, Coefficients(1.3, 1.0, 1.2))
    assert spec.name == "efficientnet-b0-phi1-1.3-1-1.2"
    assert (spec.network.depth, spec.network.width) == (1.3, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "1", None, [1], 1j])
def test_what_is_no_finite_number_is_refused(value):
    spec = effkeras.spec("b0")
    for call in (compound, lambda v: with_phi(spec, v), lambda v: with_width(spec, v)):
        with pytest.raises(EffkerasError, match="must be a finite number, not"):
            call(value)
    with pytest.raises(EffkerasError, match="gamma must be a finite number"):
        compound(1, gamma=value)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (lambda s: with_width(s, 0), "width must be above 0, not 0"),
        (lambda s: with_width(s, -0.5), "width must be above 0, not -0.5"),
        (lambda s: with_width(s, 101), "width must be above 0 and at most 100, not 101"),
        (lambda s: with_scaling(s, Scaling(depth=0)), "depth must be above 0, not 0"),
        (lambda s: with_scaling(s, Scaling(depth=1e9)), "depth must be above 0 and at most 100"),
        (lambda s: with_scaling(s, Scaling(resolution=math.nan)), "resolution must be a finite number"),
        (lambda s: with_scaling(s, Scaling(resolution=0)), "resolution must be above 0"),
        (lambda s: with_scaling(s, Scaling(resolution=99)), r"input size \(22176, 22176\) is above 16384"),
        (lambda s: with_phi(s, -20), r"input size \(16, 16\) is below 32 pixels"),
        (lambda s: with_phi(s, 31), "phi 31 is far beyond what can be built"),
        (lambda s: with_phi(s, 29, Coefficients(1e300, 1, 1)), "far beyond what can be built"),
        (lambda s: with_phi(s, 1, Coefficients(alpha=0.9)), "alpha must be at least 1, not 0.9"),
        (lambda s: with_phi(s, 1, size_multiple=0), "size multiple must be a whole number"),
        (lambda s: with_phi(s, 1, size_multiple=2.5), "size multiple must be a whole number"),
    ],
)
def test_impossible_scales_are_refused(scale, message):
    with pytest.raises(EffkerasError, match=message) as caught:
        scale(effkeras.spec("b0"))
    assert "\n" not in str(caught.value)


def test_a_detector_without_cells_is_refused():
    with pytest.raises(EffkerasError, match="d0-phi-3: fpn channels and cells must be above 0"):
        with_phi(effkeras.spec("d0"), -3)


def test_networks_without_factors_are_refused():
    for scale in (lambda s: with_phi(s, 1), lambda s: with_width(s, 0.5)):
        with pytest.raises(EffkerasError, match=r"squeezenet-1\.1 cannot be scaled"):
            scale(effkeras.spec("squeezenet-1.1"))


def test_a_pruned_network_is_not_widened_but_may_see_larger_images():
    spec = effkeras.spec("b0").replace(channels={"stem_conv": 24})
    with pytest.raises(EffkerasError, match=r"\[channels\] fix the widths"):
        with_width(spec, 2)
    assert with_scaling(spec, Scaling(resolution=2)).input.size == (448, 448)
