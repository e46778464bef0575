"""Costs: each against what it is a short way to. Limits on them: no trial is spent on what breaks them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from support.short_trials import block_net
from support.space_files import shipped, space_from
from support.tiny import tiny_detector

from effkeras.data.classes import Classes
from effkeras.graph.counting import cost
from effkeras.search.evaluation.costs import LimitedSpace, check_limits, cost_of
from effkeras.search.evaluation.settings import ArtifactSettings
from effkeras.search.genomes import all_genomes, mutate, sample
from effkeras.search.spaces.reading import space_names
from effkeras.support.errors import EffkerasError

SPEC = block_net("r1_k3_s1_e1_i8_o8", "r1_k5_s2_e3_i8_o16_se0.25")


@pytest.mark.parametrize("spec", [SPEC, tiny_detector()], ids=["classifier", "detector"])
def test_parameters_are_those_of_the_built_model(spec):
    from effkeras.building.models import build_spec

    weights = build_spec(spec).trainable_weights
    assert cost_of(spec, ["parameters"]) == {
        "parameters": sum(weight.value.numpy().size for weight in weights)
    }


def test_macs_are_those_of_the_artifact():
    from effkeras.litert.flatbuffer import multiply_adds, operators
    from effkeras.search.evaluation.artifacts import artifact_of

    counted = sum(map(multiply_adds, operators(artifact_of(SPEC, "float32"))))
    assert cost_of(SPEC, ["macs"]) == {"macs": counted}


def test_bytes_and_latency_are_of_the_real_file():
    from effkeras.search.evaluation.artifacts import artifact_of

    found = cost_of(SPEC, ["latency_ms", "bytes", "parameters"])
    assert list(found) == ["latency_ms", "bytes", "parameters"]
    assert found["bytes"] == len(artifact_of(SPEC, "float32"))
    assert found["bytes"] > 4 * found["parameters"]
    assert 0 < found["latency_ms"] < 1000


def test_the_int8_file_has_every_layer_in_int8():
    from effkeras.litert.flatbuffer import integer_share, operators
    from effkeras.search.evaluation.artifacts import artifact_of

    file = artifact_of(SPEC, "int8")
    assert integer_share(operators(file)) == 1
    assert cost_of(SPEC, ["bytes"], ArtifactSettings("int8")) == {"bytes": len(file)}


def test_counting_needs_no_tensorflow():
    code = (
        "import sys; from effkeras.definitions import zoo;"
        "from effkeras.search.evaluation.costs import cost_of;"
        "cost_of(zoo.spec('b0'), ['parameters', 'macs']); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["flops", "table:", "Macs", ""])
def test_an_unknown_cost_is_refused(name):
    with pytest.raises(EffkerasError, match="there is no cost"):
        cost_of(SPEC, ["macs", name])


def test_what_is_drawn_keeps_the_limit():
    space = LimitedSpace(shipped("digits-blocks"), {"macs": 3e6})
    random = np.random.default_rng(0)
    genome = sample(space, random)
    for _ in range(40):
        assert cost(space.spec(genome))[1] <= 3e6
        genome = mutate(space, genome, random)
    free = [sample(space.space, random) for _ in range(40)]
    assert any(space.problem(one).startswith("macs ") for one in free)


def test_costs_are_those_with_the_classes_of_the_data():
    plain, few = (
        LimitedSpace(shipped("digits-blocks"), {"parameters": 1e6}, c) for c in (None, Classes(("a", "b")))
    )
    genome = sample(plain, np.random.default_rng(0))
    head = plain.spec(genome).network.head
    assert plain.costs(genome)["parameters"] - few.costs(genome)["parameters"] == 8 * (head + 1)


@pytest.fixture
def no_draws(monkeypatch):
    """Limits are judged by the descent alone."""

    def fail(space):
        raise AssertionError("networks were drawn")

    monkeypatch.setattr("effkeras.search.evaluation.costs.check_space", fail)


@pytest.mark.parametrize("name", space_names())
def test_a_limit_far_below_all_networks_is_refused_without_many_draws(name, no_draws):
    with pytest.raises(
        EffkerasError, match=rf"no network of {name} .* found has macs [\d,]+, and the limit is 1;"
    ):
        check_limits(LimitedSpace(shipped(name), {"macs": 1}))


def test_all_costs_that_are_limited_are_told(no_draws):
    with pytest.raises(
        EffkerasError, match=r"has parameters [\d,]+ and macs [\d,]+, and the limits are 1 and 2;"
    ):
        check_limits(LimitedSpace(shipped("digits-blocks"), {"parameters": 1, "macs": 2}))


BLOCKS = """
kind = "blocks"
base = "efficientnet-digits"
size = [48, 32]
[every]
kernel = [5, 3]
"""


def test_the_cheapest_that_is_told_is_the_cheapest_there_is(tmp_path, no_draws):
    space = space_from(tmp_path, BLOCKS)
    least = min(cost(space.spec(genome))[1] for genome in all_genomes(space))
    with pytest.raises(EffkerasError, match=f"has macs {least:,}, "):
        check_limits(LimitedSpace(space, {"macs": 1}))


def test_a_limit_that_some_networks_keep_is_taken():
    check_limits(LimitedSpace(shipped("digits-blocks"), {"macs": 1e6}))


def test_where_draws_find_none_a_known_one_is_changed(monkeypatch):
    """One of 150 networks is within the limit; `check_limits` has drawn one, and the next draws do not."""
    space = check_limits(LimitedSpace(shipped("digits-blocks"), {"macs": 500_000}))
    monkeypatch.setattr("effkeras.search.genomes._DRAWS", 20)
    with pytest.raises(EffkerasError, match="the space has no valid genome"):
        sample(dataclasses.replace(space, start=None), np.random.default_rng(1))
    drawn = [sample(space, np.random.default_rng(seed)) for seed in (1, 2)]
    assert not any(map(space.problem, drawn))
    assert len({*drawn, space.start}) == 3


def test_networks_too_rare_to_be_drawn_are_refused(monkeypatch):
    monkeypatch.setattr("effkeras.search.genomes._DRAWS", 20)
    with pytest.raises(EffkerasError, match="within the limits are too rare to be drawn; raise the limits"):
        check_limits(LimitedSpace(shipped("digits-blocks"), {"macs": 345_000}))


def test_a_limit_just_below_all_networks_is_left_to_draws(monkeypatch):
    monkeypatch.setattr("effkeras.search.genomes._DRAWS", 20)
    with pytest.raises(EffkerasError, match=r"has macs 338,688, and the limit is 330,000; raise the limits"):
        check_limits(LimitedSpace(shipped("digits-blocks"), {"macs": 330_000}))
