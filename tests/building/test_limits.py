"""Models that no machine holds are refused before they are built; deep ones are built all the same."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

import effkeras
from effkeras.building import models
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import count
from effkeras.support import memory
from effkeras.support.errors import EffkerasError


def test_a_model_larger_than_the_memory_is_refused(monkeypatch):
    needed = count(effkeras.spec("b0")).total * 4
    monkeypatch.setattr(models, "machine_memory", lambda: needed - 1)
    with pytest.raises(EffkerasError, match="efficientnet-b0 has 0 GiB of weights, and this machine has"):
        models.check_memory(effkeras.spec("b0"))
    monkeypatch.setattr(models, "machine_memory", lambda: needed)
    models.check_memory(effkeras.spec("b0"))


def test_a_system_that_does_not_tell_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory.os, "sysconf_names", {})
    assert memory.machine_memory() is None
    models.check_memory(effkeras.spec("b0").replace(classes=10**15))


def deep(depth: float) -> ModelSpec:
    """One stage of many narrow blocks."""
    spec = effkeras.spec("efficientnet-lite0")
    network = dataclasses.replace(
        spec.network, blocks=("r10_k3_s2_e1_i8_o8",), stem=8, head=8, depth=depth, fixed_ends=False
    )
    return spec.replace(network=network, input=dataclasses.replace(spec.input, size=(32, 32)), classes=2)


@pytest.mark.slow
def test_more_layers_than_python_calls_are_built_saved_and_loaded(tmp_path):
    from effkeras.weights.keras_files import save

    before = sys.getrecursionlimit()
    model = effkeras.build(deep(15.0))
    assert len(model.layers) > 1000
    save(model, tmp_path / "deep.keras")
    again = effkeras.load(tmp_path / "deep.keras")
    pixels = np.full((1, 32, 32, 3), 99, "float32")
    np.testing.assert_array_equal(again(pixels), model(pixels))
    assert sys.getrecursionlimit() == before


def test_what_is_too_deep_is_one_error():
    def endless() -> None:
        endless()

    before = sys.getrecursionlimit()
    with pytest.raises(EffkerasError, match="too deep for Keras"), models.deep_graphs():
        endless()
    assert sys.getrecursionlimit() == before
