"""Objectives: the papers' formulas, what they make of a target, and the Pareto front."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effkeras.search.objectives import EXPONENTS, Objective, pareto_front
from effkeras.support.errors import EffkerasError

accuracies = st.floats(0.01, 1)
shares = st.floats(0.01, 100)
KINDS = ("mnas", "mnas-hard", "abs")


def reward(kind, accuracy, share, **options):
    return Objective(kind, "macs", 1000, **options).reward(accuracy, {"macs": 1000 * share})


def test_the_formulas():
    assert reward("mnas", 0.75, 2) == pytest.approx(0.75 * 2**-0.07)
    assert reward("mnas", 0.75, 0.5) == pytest.approx(0.75 * 0.5**-0.07)
    assert reward("mnas-hard", 0.75, 2) == pytest.approx(0.375)
    assert reward("abs", 0.75, 2) == pytest.approx(0.65)
    assert reward("abs", 0.75, 0.5) == pytest.approx(0.70)
    assert Objective().reward(0.75, {}) == 0.75
    assert Objective("pareto").reward(0.75, {"macs": 3}) == 0.75


@pytest.mark.parametrize("kind", KINDS)
@given(accuracies)
def test_the_accuracy_counts_alone_at_the_target(kind, accuracy):
    assert reward(kind, accuracy, 1) == pytest.approx(accuracy)


@given(accuracies, shares)
def test_abs_is_best_at_the_target(accuracy, share):
    assert reward("abs", accuracy, share) <= reward("abs", accuracy, 1)


@given(accuracies, st.floats(0.01, 1))
def test_mnas_hard_rewards_nothing_under_the_target(accuracy, share):
    assert reward("mnas-hard", accuracy, share) == accuracy


@given(accuracies, shares, st.floats(1.01, 3))
def test_mnas_always_rewards_a_smaller_network(accuracy, share, times):
    assert reward("mnas", accuracy, share) > reward("mnas", accuracy, share * times)


@pytest.mark.parametrize("kind", KINDS)
@given(accuracies, st.floats(1, 50), st.floats(1.01, 3))
def test_over_the_target_costs_more_is_worse(kind, accuracy, share, times):
    assert reward(kind, accuracy, share) > reward(kind, accuracy, share * times)


@pytest.mark.parametrize("kind", KINDS)
@given(st.floats(0, 0.99), shares, st.floats(0.001, 0.01))
def test_more_accuracy_is_better(kind, accuracy, share, more):
    assert reward(kind, accuracy + more, share) > reward(kind, accuracy, share)


def test_a_heavier_exponent_weighs_the_cost_more():
    assert reward("mnas", 0.7, 3, exponent=-0.5) < reward("mnas", 0.7, 3, exponent=-0.07)
    assert EXPONENTS["mnas"] == -0.07


def test_the_costs_to_measure():
    assert Objective().costs == ()
    assert Objective(limits={"bytes": 1e6}).costs == ("bytes",)
    assert Objective("pareto", "latency_ms").costs == ("latency_ms",)
    assert Objective("abs", "macs", 1e6, limits={"macs": 2e6, "bytes": 1e6}).costs == ("macs", "bytes")


def test_limits_say_what_is_over():
    objective = Objective(limits={"bytes": 1_000_000, "latency_ms": 2.5})
    assert objective.problem({"bytes": 1_000_000, "latency_ms": 2.5}) == ""
    problem = objective.problem({"bytes": 1_200_000, "latency_ms": 2.75})
    assert (
        problem == "bytes 1,200,000 is over the limit of 1,000,000; latency_ms 2.75 is over the limit of 2.5"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": "mnass"}, "did you mean 'mnas'"),
        ({"kind": "mnas"}, "needs a target macs above 0"),
        ({"kind": "abs", "target": -5}, "needs a target macs above 0, not -5"),
        ({"kind": "abs", "target": math.nan}, "above 0, not nan"),
        ({"kind": "abs", "target": math.inf}, "above 0, not inf"),
        ({"kind": "mnas", "target": 1e6, "exponent": 0.07}, "below 0, as in -0.07, not 0.07"),
        ({"kind": "mnas", "target": 1e6, "exponent": math.nan}, "exponent must be below 0"),
        ({"kind": "accuracy", "target": 1e6}, "'accuracy' weighs no cost"),
        ({"kind": "pareto", "exponent": -1.0}, "'pareto' weighs no cost"),
        ({"limits": {"bytes": 0}}, "the limit on bytes must be above 0, not 0"),
    ],
)
def test_objectives_without_sense_are_refused(options, reason):
    with pytest.raises(EffkerasError, match=reason):
        Objective(**options)


@pytest.mark.parametrize("accuracy", [math.nan, math.inf, -0.1, 1.5, 93.0])
def test_an_accuracy_that_is_none_is_refused(accuracy):
    with pytest.raises(EffkerasError, match="accuracy must be from 0 to 1"):
        Objective().reward(accuracy, {})


@pytest.mark.parametrize(
    ("costs", "reason"),
    [
        ({}, "'macs' was not measured"),
        ({"mac": 5}, "did you mean 'mac'"),
        ({"macs": math.nan}, "'macs' must be above 0, not nan"),
        ({"macs": 0}, "'macs' must be above 0, not 0"),
    ],
)
def test_a_cost_that_is_none_is_refused(costs, reason):
    with pytest.raises(EffkerasError, match=reason):
        Objective("abs", "macs", 1e6).reward(0.5, costs)
    with pytest.raises(EffkerasError, match=reason):
        Objective(limits={"macs": 1e6}).problem(costs)


def beats(one, other):
    return one != other and one[0] >= other[0] and one[1] <= other[1]


points = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.sampled_from([1.0, 2.0, 3.0])), max_size=12
)


@given(points | st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), max_size=12))
def test_the_front_is_that_of_brute_force(points):
    expected = {i for i, point in enumerate(points) if not any(beats(other, point) for other in points)}
    front = pareto_front(points)
    assert set(front) == expected
    assert len(front) == len(expected)
    assert [points[i][1] for i in front] == sorted(points[i][1] for i in front)


def test_a_front_without_a_number_is_refused():
    with pytest.raises(EffkerasError, match="point 1 of the Pareto front"):
        pareto_front([(0.5, 1.0), (math.nan, 2.0)])
