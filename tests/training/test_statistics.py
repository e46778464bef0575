"""The statistics of batch normalisation are right after 150 steps, also on a network that was changed.

The trap: with a momentum of 0.99 they lag behind in trainings of some hundred steps, and the model that is
saved is far worse than its weights are.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import pytest
from support.tiny import digits_folder

import effkeras
from effkeras.data.augmentations import AugmentSpec
from effkeras.data.splits import open_data
from effkeras.data.store import ImageStore
from effkeras.definitions.networks import BatchNormSpec
from effkeras.inference.evaluate import evaluate
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.batch_norm import norms_of
from effkeras.layers.normalize import spec_of
from effkeras.training.loop import Job, TuneJob, train, tune
from effkeras.training.pipeline import BatchSpec, training_batches
from effkeras.training.settings import TrainSettings
from effkeras.weights.keras_files import save
from quantize import prune_channels
from quantize.specs import ChannelSpec

pytestmark = pytest.mark.slow

SETTINGS = TrainSettings(
    steps=150, batch=8, learning_rate=1e-3, augment=AugmentSpec({"flip": False}), validation_images=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Enough images to tell a hundredth of the metric from chance."""
    return digits_folder(tmp_path_factory.mktemp("data") / "classes", classify=True, train=300, val=1000)


@pytest.fixture(scope="module")
def start():
    """A trained network with the statistics of a new one, and a momentum of 0.99."""
    shipped = effkeras.build("efficientnet-digits", weights="digits")
    network = dataclasses.replace(spec_of(shipped).network, batch_norm=BatchNormSpec(momentum=0.99))
    model = effkeras.build(spec_of(shipped).replace(network=network, weights={}))
    model.set_weights(shipped.get_weights())
    return _forgotten(model)


def test_after_a_training(start, data, tmp_path):
    save(start, tmp_path / "start.keras")
    job = Job(spec_of(start), open_data(data, "train"), None, SETTINGS, tmp_path / "run")
    check(train(dataclasses.replace(job, weights=str(tmp_path / "start.keras"))), data)


def test_after_channels_are_removed(start, data, tmp_path):
    smaller = _forgotten(prune_channels(start, ChannelSpec(0.7)).model)
    job = TuneJob(smaller, spec_of(smaller), open_data(data, "train"), None, SETTINGS, tmp_path / "run")
    check(tune(job), data)


def check(model: keras.Model, data: Path) -> None:
    found = top1(model, data)
    assert found > 0.7
    assert abs(top1(recomputed(model, data), data) - found) < 0.01


def _forgotten(model: keras.Model) -> keras.Model:
    for norm in norms_of(model):
        norm.moving_mean.assign(keras.ops.zeros_like(norm.moving_mean))
        norm.moving_variance.assign(keras.ops.ones_like(norm.moving_variance))
    return model


def top1(model: keras.Model, data: Path) -> float:
    return evaluate(KerasPredictor.of(model), open_data(data, "val"))["top1"]


def recomputed(model: keras.Model, data: Path) -> keras.Model:
    """A copy whose statistics are the mean over batches of training images, with all weights as they are."""
    copy, spec = effkeras.build(spec_of(model)), spec_of(model)
    copy.set_weights(model.get_weights())
    for norm in norms_of(copy):
        norm.call = _with_own_statistics(norm)
    store = ImageStore(open_data(data, "train"), spec.input)
    for number, (pixels, _) in enumerate(
        training_batches(store, spec, BatchSpec(100, 0, SETTINGS.augment), range(3)), start=1
    ):
        for norm in norms_of(copy):
            norm.momentum = 1 - 1 / number
        copy(pixels, training=False)
    for norm in norms_of(copy):
        del norm.call
    return copy


def _with_own_statistics(norm: keras.layers.BatchNormalization):
    whole = norm.call

    def call(inputs, training=None, mask=None):
        return whole(inputs, training=True, mask=mask)

    return call
