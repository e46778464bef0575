"""A model becomes a row: what XNNPACK takes of it, and what an Edge TPU would."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from support.tiny_models import quantized, tiny_spec

import effkeras
from effkeras.building.models import build_spec
from effkeras.support import results
from export.benchmarks import partition
from export.benchmarks.partition import Made, cells, main, models, row_of
from export.benchmarks.random_models import (
    STATISTICS_IMAGES,
    draw_statistics,
    measure_statistics,
    random_images,
)

CLASSIFIER, DETECTOR = "efficientnet-lite0", "efficientdet-lite0"


@pytest.mark.slow
def test_a_lite_network_is_taken_whole_by_both():
    recipes = (("float32", "float32"), ("int8", "float32"), ("int8", "uint8"))
    made = Made((64, 64), *(quantized(CLASSIFIER, recipe, io).flatbuffer for recipe, io in recipes))
    row = row_of(CLASSIFIER, made)
    for recipe in ("float32", "int8"):
        taken = row[recipe]
        assert (taken["delegated_ops"], taken["partitions"]) == (taken["total_ops"], 1)
        assert taken["total_ops"] > 10
    assert row["int8"]["bytes"] < row["float32"]["bytes"]
    assert (row["edgetpu"]["passed"], row["edgetpu"]["doubts"]) == (True, [])
    name, size, *shares, device = cells(row)
    assert (name, size) == (CLASSIFIER, "64 x 64")
    assert shares[1].endswith(f"/ {row['int8']['total_ops']}, 1")
    assert device.split(" / ")[0] == device.split(" / ")[1]


@pytest.mark.slow
def test_batch_norms_get_the_statistics_of_what_they_see():
    keras.utils.set_random_seed(0)
    model = build_spec(tiny_spec(DETECTOR))
    draw_statistics(model)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    measure_statistics(model)
    assert [norm.momentum for norm in norms] == momenta
    shown = np.concatenate(random_images(model.inputs[0].shape[1:], STATISTICS_IMAGES))
    seen = np.asarray(keras.Model(model.input, norms[0].output)(shown))
    np.testing.assert_allclose(seen.mean((0, 1, 2)), norms[0].beta, atol=0.01)
    np.testing.assert_allclose(seen.std((0, 1, 2)), norms[0].gamma, rtol=0.1)
    last = np.asarray(keras.Model(model.input, norms[-1].output)(shown))
    assert np.abs(last).max() < 30


def test_doubts_are_told_with_their_number():
    device = {"on_device": 9, "operators": 9, "may_not_map": 2}
    taken = {"delegated_ops": 5, "total_ops": 6, "partitions": 2}
    row = {"model": "m", "input_size": [1, 2], "float32": taken, "int8": taken, "edgetpu": device}
    assert cells(row) == ["m", "1 x 2", "5 / 6, 2", "5 / 6, 2", "9 / 9, 2 in doubt"]
    assert cells({**row, "edgetpu": None})[-1] == ""


def test_the_families_are_measured_and_no_others():
    assert {"efficientnet-b0", "efficientnetv2-s", "efficientdet-d7x", DETECTOR} <= set(models())
    assert "mnasnet-a1" not in models()


def test_a_model_that_fails_is_told_and_the_others_are_kept(tmp_path, monkeypatch, capsys):
    taken = {"delegated_ops": 5, "total_ops": 6, "partitions": 2}

    def measured(name: str):
        if name == DETECTOR:
            raise effkeras.EffkerasError("too large")
        return {"kind": "partition", "model": name, "input_size": [1, 2], "float32": taken, "int8": taken}

    monkeypatch.setattr(partition, "_measured", measured)
    out = tmp_path / "rows.jsonl"
    assert main(["--only", DETECTOR, "efficientnet-b0", "--out", str(out)]) == 1
    assert [row["model"] for row in results.read(out)] == ["efficientnet-b0"]
    assert "failed: efficientdet-lite0: too large" in capsys.readouterr().out


def test_an_unknown_model_gets_a_hint(capsys):
    assert main(["--only", "efficientdet-d9"]) == 2
    assert "did you mean" in capsys.readouterr().err


# It could not be converted with 23 GB of memory.
TOO_LARGE = ("efficientnet-l2",)


@pytest.mark.parametrize("name", sorted(set(models()) - set(TOO_LARGE)))
def test_every_model_was_measured_to_be_one_partition(name):
    """`make bench-export` measures them, which takes an hour; models that are new are measured with it."""
    rows = results.read(Path(__file__).parents[3] / "models" / "results.jsonl")
    newest = [row for row in rows if row["kind"] == "partition" and row["model"] == name][-1]
    for recipe in ("float32", "int8"):
        taken = newest[recipe]
        assert (taken["delegated_ops"], taken["partitions"]) == (taken["total_ops"], 1)
