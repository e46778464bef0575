"""The search against every possible choice, on made-up networks whose best choice is known."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.precision.search import KeptLayers, KeptLayerSearch
from quantize.precision.sensitivity import LayerSensitivity


class Network:
    """Each layer in int8 costs its own drop; what is measured is counted."""

    def __init__(self, costs: list[float], between: dict[str, set[str]] | None = None):
        self.costs = {f"layer{i}": cost for i, cost in enumerate(costs)}
        self.between = between or {}
        self.measured: list[frozenset[str]] = []

    def drop(self, kept: Iterable[str]) -> float:
        self.measured.append(frozenset(kept))
        return sum(cost for name, cost in self.costs.items() if name not in self.measured[-1])

    def ranked(self) -> list[LayerSensitivity]:
        layers = [LayerSensitivity(name, ("CONV_2D",), 10, cost) for name, cost in self.costs.items()]
        return sorted(layers, key=lambda one: -one.error)

    def bridges(self, kept: Iterable[str]) -> list[str]:
        return [name for name, sides in self.between.items() if sides <= set(kept)]

    def conversions(self, kept: Iterable[str]) -> int:
        names = set(kept)
        return 2 * len(names) - sum(4 for name, sides in self.between.items() if {name, *sides} <= names)

    def run(self, max_drop: float, requantize: int = 8) -> KeptLayers:
        search = KeptLayerSearch(max_drop, requantize, self.drop)
        return search.run(self.ranked(), self, KeptLayers((), self.drop(())))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.floats(0, 2))
def test_it_keeps_as_few_as_possible(costs, budget):
    network = Network(costs)
    if network.drop(()) <= budget:
        return
    found = network.run(budget)
    enough = [
        kept
        for count in range(len(costs) + 1)
        for kept in itertools.combinations(network.costs, count)
        if sum(cost for name, cost in network.costs.items() if name not in kept) <= budget
    ]
    assert len(found.kept) == len(enough[0])
    assert found.drop <= budget


def test_few_artifacts_are_measured():
    network = Network([0.01] * 60 + [0.5, 0.4, 0.3, 0.2, 0.1])
    found = network.run(0.61, requantize=2)
    assert len(found.kept) == 5
    assert len(network.measured) < 12


def test_layers_that_turn_out_not_to_matter_are_given_back():
    network = Network([0.5, 0.0, 0.4])
    ranking = [
        LayerSensitivity("layer1", ("CONV_2D",), 99, 0.9),  # looks worst, and costs nothing
        *(one for one in network.ranked() if one.name != "layer1"),
    ]
    found = KeptLayerSearch(0.1, 8, network.drop).run(ranking, network, KeptLayers((), 0.9))
    assert set(found.kept) == {"layer0", "layer2"}
    assert "the drop is 0.5" in found.why("layer0")
    assert "the drop is 0.4" in found.why("layer2")


def test_out_of_reach_gives_the_best_that_was_measured():
    network = Network([0.5, 0.4])
    found = network.run(-0.1)
    assert set(found.kept) == set(network.costs)
    assert found.drop == pytest.approx(0)
    assert "beyond the budget" in found.why("layer0")


def test_layers_between_kept_ones_join_them():
    network = Network([0.5, 0.0, 0.4], between={"layer1": {"layer0", "layer2"}})
    found = network.run(0.1)
    assert set(found.kept) == {"layer0", "layer1", "layer2"}
    assert "2 conversions fewer" in found.why("layer1")
