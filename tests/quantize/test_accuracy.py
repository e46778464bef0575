"""A model is measured once on the same images, and again when what its metrics depend on has changed."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from support.tiny import digits_folder, tiny_classifier
from support.tiny_models import tiny_model

from effkeras.building.models import build_spec
from effkeras.data.splits import open_data
from effkeras.inference.compare import Measured
from effkeras.layers.normalize import spec_of
from effkeras.support import results
from quantize import accuracy
from quantize.accuracy import digest_of, model_metrics

NAME = "efficientnet-lite0"


@pytest.fixture
def data(tmp_path):
    return open_data(digits_folder(tmp_path / "classes", classify=True), "test")


@pytest.fixture
def measured(monkeypatch):
    """Measuring takes no time, and counts."""
    calls = []

    def measure(predictor, data, *, limit, title):
        calls.append(limit)
        return Measured({"top1": 0.5, "top5": 1.0})

    monkeypatch.setattr(accuracy, "measure", measure)
    return calls


def test_what_was_measured_before_is_read(tmp_path, data, capsys):
    model, kept = build_spec(tiny_classifier()), tmp_path / "measured"
    first = model_metrics(model, data, 4, kept)
    again = model_metrics(model, data, 4, kept)
    assert (again.measured.metrics, again.digest) == (first.measured.metrics, first.digest)
    np.testing.assert_array_equal(
        again.measured.outcomes.arrays["right"], first.measured.outcomes.arrays["right"]
    )
    said = capsys.readouterr().err
    assert said.count("measured before on test, see") == 1
    assert len(list(kept.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"PK", {"AP": 0.5}, {"top1": float("nan")}, {}])
def test_files_that_do_not_tell_are_measured_anew(content, tmp_path, data, measured):
    model = tiny_model(NAME)
    file = tmp_path / f"{digest_of(model, data, None)[:24]}.npz"
    file.write_bytes(content) if isinstance(content, bytes) else Measured(content).save(file)
    assert model_metrics(model, data, None, tmp_path).measured.metrics["top1"] == 0.5
    assert measured == [None]
    assert Measured.load(file).metrics["top1"] == 0.5


def test_what_the_metrics_depend_on_is_in_the_digest(data, monkeypatch):
    model = tiny_model(NAME)
    found = [digest_of(model, data, None), digest_of(model, data, 2)]
    other = keras.models.clone_model(model)
    other.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    monkeypatch.setattr(accuracy, "spec_of", lambda _: spec_of(model))
    found.append(digest_of(other, data, None))
    found.append(digest_of(model, dataclasses.replace(data, records=data.records[1:]), None))
    monkeypatch.setattr(accuracy, "spec_of", lambda _: dataclasses.replace(spec_of(model), name="another"))
    found.append(digest_of(model, data, None))
    monkeypatch.undo()
    with data.records[0].path.open("ab") as image:
        image.write(b"\0")
    found.append(digest_of(model, data, None))
    monkeypatch.setattr(results, "environment", lambda: {"versions": {"keras": "0"}})
    found.append(digest_of(model, data, None))
    assert len(set(found)) == len(found)
    assert digest_of(model, data, None) == found[-1]
