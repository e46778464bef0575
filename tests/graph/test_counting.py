"""Counts are the published ones, and those of the models that are built."""

from __future__ import annotations

import csv

import pytest
from support.goldens import FOLDER
from support.proofs import COUNTS, proven

import effkeras
from effkeras.graph.counting import count
from effkeras.support.errors import EffkerasError

# Counted on the authors' networks: tensorflow/tpu, google/automl, tensorflow/models slim, keras.applications.
with (FOLDER / "counts.csv").open() as file:
    PUBLISHED = {row["model"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("model", proven(PUBLISHED, COUNTS))
def test_models_cost_what_is_published(model):
    row, spec = PUBLISHED[model], effkeras.spec(model)
    counts = count(spec)
    assert spec.input.size == (int(row["size"]), int(row["size"]))
    assert counts.trainable == int(row["trainable"])
    if row["total"]:
        assert counts.total == int(row["total"])
    if row["mega_macs"]:
        assert counts.macs == pytest.approx(float(row["mega_macs"]) * 1e6, rel=1e-2)
    if row["profiler_giga_macs"]:
        assert counts.operations / 2 == pytest.approx(float(row["profiler_giga_macs"]) * 1e9, rel=5e-3)


def test_impossible_sums_are_refused():
    spec = effkeras.spec("b0").replace(channels={"block1_project_conv": 20})
    with pytest.raises(EffkerasError, match="block2_add cannot add maps of 20 and 24 channels"):
        count(spec)
