"""A kind of network is one file: what a definition, counting, building, `info` and training need of it."""

from __future__ import annotations

import importlib.util
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.pages import complete_file

import effkeras
from effkeras.commands import info
from effkeras.definitions.changes import Regularization, regularized
from effkeras.definitions.networks import NETWORKS
from effkeras.definitions.scaling import with_width
from effkeras.graph.counting import count
from effkeras.graph.keras_counting import count_layers
from effkeras.support.errors import EffkerasError

KIND = complete_file("network.md")
MODEL = """
family = "application"
classes = 3
input = { size = [32, 48], mean = [0, 0, 0], std = [255, 255, 255], resize = "center-crop" }
[network]
kind = "plain"
filters = [4, 6, 8, 10, 12]
dropout = 0.1
"""


@pytest.fixture
def definition(tmp_path, monkeypatch) -> Path:
    """A definition of a kind that a file of this test adds."""
    (tmp_path / "plain_kind.py").write_text(KIND)
    (tmp_path / "mine.toml").write_text(MODEL)
    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS.entries()))
    source = importlib.util.spec_from_file_location("plain_kind", tmp_path / "plain_kind.py")
    module = importlib.util.module_from_spec(source)
    monkeypatch.setitem(sys.modules, "plain_kind", module)
    source.loader.exec_module(module)
    return tmp_path / "mine.toml"


def test_one_file_adds_a_kind_of_network(definition, tmp_path, capsys):
    spec, model = effkeras.spec(definition), effkeras.build(definition)
    filters = (3, 4, 6, 8, 10, 12)
    pairs = list(itertools.pairwise(filters))
    assert count(spec).trainable == sum(9 * a * b + b for a, b in pairs) + 12 * 3 + 3 == model.count_params()
    positions = [math.ceil(32 / 2**level) * math.ceil(48 / 2**level) for level in range(1, 6)]
    macs = sum(9 * a * b * size for (a, b), size in zip(pairs, positions, strict=True)) + 12 * 3
    assert count(spec).macs == macs == count_layers(model).macs
    assert info.main([str(definition)]) == 0
    assert "4 6 8 10 12" in capsys.readouterr().out
    model.compile("sgd", "sparse_categorical_crossentropy")
    history = model.fit(np.zeros((2, 32, 48, 3)), np.array([0, 2]), epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    model.save(tmp_path / "mine.keras")
    assert effkeras.spec(tmp_path / "mine.keras") == spec == effkeras.spec(tmp_path / "mine.keras")


def test_a_new_kind_is_checked_scaled_and_the_backbone_of_a_detector(definition, tmp_path):
    spec = effkeras.spec(definition)
    assert with_width(spec, 2).network.filters == (8, 12, 16, 20, 24)
    assert regularized(spec, Regularization(dropout=0.5)).network.dropout == 0.5
    with pytest.raises(EffkerasError, match="has no survival to set; it has dropout"):
        regularized(spec, Regularization(survival=0.5))
    definition.write_text(MODEL.replace("10, 12]", "10]"))
    with pytest.raises(EffkerasError, match="filters must name five widths"):
        effkeras.spec(definition)
    definition.write_text(MODEL)
    (tmp_path / "det.toml").write_text(f'base = "d0"\nbackbone = "{definition.name}"\n')
    detector = effkeras.spec(tmp_path / "det.toml")
    assert detector.network == spec.network
    assert count(detector).macs > count(spec).macs


def test_definitions_are_read_without_tensorflow_and_keras():
    text = (
        "import sys, effkeras; [effkeras.spec(name) for name in ('d0', 'densenet121', 'nasnet-mobile')];"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
