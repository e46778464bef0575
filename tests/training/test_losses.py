"""Label smoothing for classifiers: the formula, Keras's own value, and class numbers as targets."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.tiny import tiny_classifier, tiny_detector

import effkeras
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.losses import CiouLoss
from effkeras.training.compiling import SmoothedCrossentropy, classifier_loss, compile_for, losses_for
from effkeras.training.settings import TrainSettings

NUMBERS = np.array([2, 0, 1, 2])


def chances() -> np.ndarray:
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_it_is_the_formula(smoothing, shape):
    given = chances()
    logs = -np.log(given)
    by_hand = (1 - smoothing) * logs[range(4), NUMBERS] + smoothing * logs.mean(axis=1)
    loss = classifier_loss(smoothing)
    assert float(loss(NUMBERS.reshape(shape), given)) == pytest.approx(by_hand.mean(), rel=1e-5)


def test_it_is_keras_on_one_hot_targets():
    theirs = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(np.eye(3)[NUMBERS], chances())
    assert float(SmoothedCrossentropy(0.2)(NUMBERS, chances())) == pytest.approx(float(theirs), rel=1e-6)


def test_without_smoothing_it_is_the_sparse_loss():
    plain = classifier_loss(0.0)
    assert type(plain) is keras.losses.SparseCategoricalCrossentropy
    ours = SmoothedCrossentropy(0.0)(NUMBERS, chances())
    assert float(ours) == pytest.approx(float(plain(NUMBERS, chances())), rel=1e-6)


def test_shares_of_classes_are_targets_too():
    shares = np.array([[0.5, 0.5, 0], [0, 0, 1], [1, 0, 0], [0.2, 0.3, 0.5]], np.float32)
    loss = classifier_loss(0.1, soft=True)
    theirs = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)(shares, chances())
    assert float(loss(shares, chances())) == pytest.approx(float(theirs), rel=1e-6)
    assert float(loss(np.eye(3)[NUMBERS], chances())) == pytest.approx(float(loss(NUMBERS, chances())))


def test_it_survives_serialisation():
    loss = SmoothedCrossentropy(0.3, name="mine")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is SmoothedCrossentropy
    assert again.get_config() == loss.get_config()


def test_it_weighs_samples_like_any_keras_loss():
    weights = np.array([1.0, 0.0, 0.0, 0.0])
    one = SmoothedCrossentropy(0.1)(NUMBERS[:1], chances()[:1])
    assert float(SmoothedCrossentropy(0.1)(NUMBERS, chances(), weights)) == pytest.approx(float(one) / 4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_count_an_image_so_often(smoothing):
    weights = np.array([2.0, 1.0, 0.5])
    each = [
        float(SmoothedCrossentropy(smoothing)(NUMBERS[i : i + 1], chances()[i : i + 1])) for i in range(4)
    ]
    ours = classifier_loss(smoothing, tuple(weights))
    assert float(ours(NUMBERS, chances())) == pytest.approx(np.mean(weights[NUMBERS] * each), rel=1e-5)
    assert keras.losses.deserialize(keras.losses.serialize(ours)).class_weights == tuple(weights)


def test_class_weights_reach_all_losses():
    for made, name in ((tiny_classifier(), None), (tiny_detector(), "class_logits")):
        model = effkeras.build(made)
        compile_for(model, made, TrainSettings(epochs=1), 3, class_weights=(2.0,) * made.classes)
        loss = model.loss[name] if name else model.loss
        assert loss.class_weights == (2.0,) * made.classes


def test_the_settings_reach_a_detectors_losses():
    wanted = {"focal_alpha": 0.5, "focal_gamma": 2.0, "box_loss": "ciou", "box_weight": 7.0}
    spec = tiny_detector()
    losses = losses_for(spec, TrainSettings(**wanted))
    assert (losses["class_logits"].alpha, losses["class_logits"].gamma) == (0.5, 2.0)
    assert (type(losses["box_deltas"]), losses["box_deltas"].weight) == (CiouLoss, 7.0)
    sizes = np.diff(anchor_boxes(spec).reshape(-1, 2, 2), axis=1)[:, 0]
    np.testing.assert_allclose(losses["box_deltas"].aspects, sizes[:, 0] / sizes[:, 1], rtol=1e-5)
