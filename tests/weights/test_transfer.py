"""A classifier's weights in a detector's backbone, and class predictors matched by class name."""

from __future__ import annotations

import dataclasses
import logging

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoint_writer import write_checkpoint
from support.tiny import tiny_classifier, tiny_detector
from support.torch_weights import read_torch_golden

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_classes, with_size
from effkeras.graph.counting import backbone_layers
from effkeras.support.errors import EffkerasError
from effkeras.weights.formats import ModelWeight
from effkeras.weights.keras_files import save
from effkeras.weights.loading import load_weights
from effkeras.weights.tf_checkpoints import official_names
from effkeras.weights.transfer import by_class_name

SMALL = {"width": 0.35, "depth": 0.3}


def small(name: str):
    spec = effkeras.spec(name)
    network = dataclasses.replace(spec.network, **SMALL)
    return with_size(spec.replace(network=network, classes=3, labels=(), category_ids=()), (64, 64))


@pytest.fixture(scope="module")
def classifier():
    return build_spec(small("b0"))


@pytest.fixture(scope="module")
def shared():
    return build_spec(small("d0"))


@pytest.fixture
def detector(shared):
    shared.set_weights([np.full(weight.shape, 9, np.float32) for weight in shared.weights])
    return shared


@pytest.fixture(scope="module", params=["keras", "run", "h5", "tensorflow"])
def file(request, classifier, tmp_path_factory):
    """The classifier's weights in each format."""
    folder = tmp_path_factory.mktemp("classifier")
    if request.param == "keras":
        save(classifier, folder / "b0.keras")
        return folder / "b0.keras"
    if request.param == "run":
        save(classifier, folder / "model.keras")
        return folder
    if request.param == "h5":
        classifier.save_weights(folder / "b0.weights.h5")
        return folder / "b0.weights.h5"
    names = official_names(small("b0"))
    weights = [(layer.name, weight) for layer in classifier.layers for weight in layer.weights]
    return write_checkpoint(folder, {names[layer, one.name]: one.numpy() for layer, one in weights})


def test_the_backbone_gets_them_and_says_so(file, classifier, detector, caplog):
    with caplog.at_level(logging.WARNING, "effkeras"):
        report = load_weights(detector, file)
    backbone = backbone_layers(small("d0"))
    for layer in detector.layers:
        theirs = classifier.get_layer(layer.name).get_weights() if layer.name in backbone else None
        for position, weight in enumerate(layer.get_weights()):
            wanted = 9 if theirs is None else theirs[position]
            np.testing.assert_array_equal(weight, np.broadcast_to(wanted, weight.shape))
    assert report.loaded == sum(len(detector.get_layer(name).weights) for name in backbone)
    assert report.skipped == ("pyramid and heads",)
    assert "is a classifier" in caplog.text


@pytest.fixture(scope="module")
def shallow():
    """A detector all of whose backbone's layers the classifier has, and some more."""
    spec = small("d0")
    return build_spec(spec.replace(network=dataclasses.replace(spec.network, depth=0.1)))


def test_those_of_a_deeper_network_are_refused(file, shallow, detector):
    """Whatever is left over beside the classifier's own layers belongs to another network."""
    before = shallow.get_weights()
    assert len(before) < len(detector.weights)
    with pytest.raises(EffkerasError, match="is not a checkpoint of this model"):
        load_weights(shallow, file)
    for ours, theirs in zip(before, shallow.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_timms_classifier_brings_its_padding(tmp_path):
    golden = read_torch_golden("tf_efficientnet_lite0")
    path = tmp_path / "tf_efficientnet_lite0.safetensors"
    save_file(golden.weights(), path)
    detector = effkeras.build("efficientdet-lite0", classes=2, input_shape=(64, 64), weights=path)
    stem = golden.weights()["conv_stem.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(detector.get_layer("stem_conv").get_weights()[0], stem)


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
    assert "loaded by class name: c, a" in caplog.text


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


@pytest.mark.parametrize("ours", [("caf\u00e9", "dog", "new"), ("caf\u00e9", "dog")])
def test_a_class_is_known_by_its_name_however_it_is_written(ours):
    """File systems write accents as two characters, and lists have spaces around names."""
    wanted = ModelWeight("logits", "kernel", 0)
    value, start = np.array([[1.0, 2.0]]), np.zeros((1, len(ours)))
    mixed = by_class_name(wanted, value, start, (("cafe\u0301", " dog "), ours))
    np.testing.assert_array_equal(mixed[0, :2], [1.0, 2.0])
    assert not mixed[0, 2:].any()
