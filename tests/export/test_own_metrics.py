"""A model is measured once on the same pictures, and again when what its metrics depend on has changed."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from tiny import digits_folder
from tiny_models import tiny_model

from effkeras import results
from effkeras.data.splits import open_data
from effkeras.models import spec_of
from export import own_metrics as own
from export.own_metrics import digest_of, own_metrics

NAME = "efficientnet-lite0"
TOLD = {"top1": 0.25, "top5": 0.75}


@pytest.fixture
def data(tmp_path):
    return open_data(digits_folder(tmp_path / "classes", classify=True), "test")


@pytest.fixture
def measured(monkeypatch):
    """Measuring takes no time, and counts."""
    calls = []

    def measure(predictor, data, *, limit, title):
        calls.append(limit)
        return {"top1": 0.5, "top5": 1.0}

    monkeypatch.setattr(own, "evaluate", measure)
    return calls


def test_what_was_measured_before_is_read(tmp_path, data, measured, capsys):
    model, records = tiny_model(NAME), tmp_path / "results.jsonl"
    first = own_metrics(model, data, 4, records)
    assert (first.metrics, measured) == ({"top1": 0.5, "top5": 1.0}, [4])
    old = {"measured_on": first.digest, "float_metrics": {"top1": 0.1, "top5": 0.2}}
    other = {"measured_on": "another", "float_metrics": {"top1": 0.9, "top5": 0.9}}
    results.append(records, [old, {**old, "float_metrics": TOLD}, other, {"kind": "latency"}])
    again = own_metrics(model, data, 4, records)
    assert (again.metrics, again.digest, measured) == (TOLD, first.digest, [4])
    assert "measured before, as" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        '{"broken',
        "[]",
        "{}",
        '{"measured_on": "DIGEST"}',
        '{"measured_on": "DIGEST", "float_metrics": {"AP": 0.5}}',
        '{"measured_on": "DIGEST", "float_metrics": {"top1": "0.5", "top5": 1}}',
    ],
)
def test_records_that_do_not_tell_are_measured_anew(line, tmp_path, data, measured):
    model, records = tiny_model(NAME), tmp_path / "results.jsonl"
    records.write_text(line.replace("DIGEST", digest_of(model, data, None)) + "\n")
    assert own_metrics(model, data, None, records).metrics["top1"] == 0.5
    assert measured == [None]


def test_what_the_metrics_depend_on_is_in_the_digest(data, monkeypatch):
    model = tiny_model(NAME)
    found = [digest_of(model, data, None), digest_of(model, data, 2)]
    other = keras.models.clone_model(model)
    other.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    monkeypatch.setattr(own, "spec_of", lambda _: spec_of(model))
    found.append(digest_of(other, data, None))
    found.append(digest_of(model, dataclasses.replace(data, records=data.records[1:]), None))
    monkeypatch.setattr(own, "spec_of", lambda _: dataclasses.replace(spec_of(model), name="another"))
    found.append(digest_of(model, data, None))
    monkeypatch.undo()
    with data.records[0].path.open("ab") as picture:
        picture.write(b"\0")
    found.append(digest_of(model, data, None))
    monkeypatch.setattr(results, "environment", lambda: {"versions": {"keras": "0"}})
    found.append(digest_of(model, data, None))
    assert len(set(found)) == len(found)
    assert digest_of(model, data, None) == found[-1]
