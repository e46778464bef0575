"""A classifier's weights, in any format, are those of a detector's backbone."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoint_writer import write_checkpoint
from support.torch_weights import read_torch_golden

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.definition import with_size
from effkeras.graph.counting import backbone_layers
from effkeras.support.errors import EffkerasError
from effkeras.weights import load_weights
from effkeras.weights.keras_files import save
from effkeras.weights.official_names import official_names

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


@pytest.fixture(scope="module", params=["keras", "h5", "tensorflow"])
def file(request, classifier, tmp_path_factory):
    """The classifier's weights in each format."""
    folder = tmp_path_factory.mktemp("classifier")
    if request.param == "keras":
        save(classifier, folder / "b0.keras")
        return folder / "b0.keras"
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
