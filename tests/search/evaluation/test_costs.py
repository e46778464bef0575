"""Costs: each against what it is a short way to."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.short_trials import block_net
from support.tiny import tiny_detector

from effkeras.search.evaluation.costs import cost_of
from effkeras.search.evaluation.settings import ArtifactSettings
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
    from effkeras.litert.costs import multiply_adds
    from effkeras.litert.flatbuffer import operators
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
    from effkeras.litert.costs import integer_share
    from effkeras.litert.flatbuffer import operators
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
