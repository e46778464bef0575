"""A class predictor in the classes of another model: those of the same name keep their weights."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pytest
from support.tiny import tiny_classifier, tiny_detector

from effkeras.building.models import build_spec
from effkeras.definitions.definition import with_classes
from effkeras.weights import load_weights
from effkeras.weights.keras_files import save

LAYERS = {"classifier": ("logits", "kernel"), "detector": ("class_predict", "pointwise_kernel")}


@pytest.fixture(scope="module", params=["classifier", "detector"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def spec(kind):
    return tiny_classifier() if kind == "classifier" else tiny_detector()


@pytest.fixture(scope="module")
def given(spec, tmp_path_factory):
    """A model of the classes a, b and c, and its file."""
    model = build_spec(with_classes(spec, ["a", "b", "c"]))
    path = tmp_path_factory.mktemp("given") / "abc.keras"
    save(model, path)
    return model, path


def by_class(model: keras.Model, kind: str) -> np.ndarray:
    """(features, anchors, classes) of the predictor's kernel."""
    layer, weight = LAYERS[kind]
    kernel = next(one for one in model.get_layer(layer).weights if one.name == weight).numpy()
    return kernel.reshape(
        kernel.shape[-2], -1, model.output_shape[-1] if kind == "classifier" else len("abc")
    )


def test_classes_go_by_name_not_by_position(kind, spec, given, caplog):
    theirs, path = given
    model = build_spec(with_classes(spec, ["c", "new", "a"]))
    start = by_class(model, kind)
    with caplog.at_level(logging.WARNING, "effkeras"):
        load_weights(model, path)
    ours, known = by_class(model, kind), by_class(theirs, kind)
    np.testing.assert_array_equal(ours[..., 0], known[..., 2])
    np.testing.assert_array_equal(ours[..., 1], start[..., 1])
    np.testing.assert_array_equal(ours[..., 2], known[..., 0])
    assert "by name are taken over: c, a" in caplog.text


def test_unknown_classes_start_at_random(kind, spec, given, caplog):
    _, path = given
    model = build_spec(with_classes(spec, ["x", "y", "z"]))
    start = by_class(model, kind)
    with caplog.at_level(logging.WARNING, "effkeras"):
        load_weights(model, path)
    np.testing.assert_array_equal(by_class(model, kind), start)
    assert "keeps its random start" in caplog.text


def test_the_same_classes_are_taken_whole(kind, spec, given, caplog):
    theirs, path = given
    model = build_spec(with_classes(spec, ["a", "b", "c"]))
    with caplog.at_level(logging.WARNING, "effkeras"):
        load_weights(model, path)
    np.testing.assert_array_equal(by_class(model, kind), by_class(theirs, kind))
    assert not caplog.records
