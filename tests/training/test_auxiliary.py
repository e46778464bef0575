"""The auxiliary head: a second output in training that leaves no trace in what is saved and exported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.tiny import random_images, tiny_cells, tiny_detector

import effkeras
from effkeras.building.models import build_spec
from effkeras.data.splits import open_data
from effkeras.graph.counting import CountingNet, Shape
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.normalize import spec_of
from effkeras.litert.runner import LiteRTModel
from effkeras.support.errors import EffkerasError
from effkeras.training.compiling import auxiliary_losses, auxiliary_weight, with_auxiliary
from effkeras.training.loop import Job, train
from effkeras.training.settings import TrainSettings
from quantize import ptq

QUICK = TrainSettings(epochs=3, batch=8, learning_rate=3e-3, warmup_epochs=0.5, validation_images=8)
SMALL = ("sep3x3(h) + max3x3(p)", "avg3x3(n0) + h")


def small_cells(**network: object):
    """Of the 32 px kind, with drop-path and the auxiliary head."""
    options = {"normal": SMALL, "reduction": SMALL, "survival": 0.8, "auxiliary": 0.4, **network}
    return tiny_cells("nasnet-cifar", **options)


def test_the_trained_model_shares_all_weights_with_the_plain_one():
    plain = build_spec(small_cells())
    model = with_auxiliary(plain)
    assert list(model.output) == ["probabilities", "auxiliary"]
    assert {tuple(output.shape) for output in model.output.values()} == {(None, 3)}
    shared = {id(weight) for weight in plain.weights}
    extra = [weight.path for weight in model.weights if id(weight) not in shared]
    assert all(path.startswith("auxiliary_") for path in extra)
    assert len(model.weights) - len(extra) == len(plain.weights)
    pixels = random_images(2, 32)
    np.testing.assert_array_equal(model(pixels)["probabilities"], plain(pixels))
    assert spec_of(model) == spec_of(plain)


@pytest.mark.parametrize(("base", "size"), [("nasnet-mobile", (32, 75)), ("nasnet-cifar", (45, 32))])
def test_the_head_has_what_was_counted_at_any_size(base, size):
    plain = build_spec(tiny_cells(base, size))
    model = with_auxiliary(plain)
    net, tap = CountingNet(), model.get_layer("auxiliary_act").output.shape
    spec_of(plain).network.auxiliary_logits(net, Shape(*tap[1:]), 3)
    built = {(layer.name, w.name): tuple(w.shape) for layer in model.layers for w in layer.weights}
    assert {key: shape for key, shape in built.items() if key[0].startswith("auxiliary_")} == net.shapes
    assert tap[1:3] == plain.get_layer("cell1_concat").output.shape[1:3]
    assert np.isfinite(np.asarray(model(random_images(1, 75)[:, : size[0], : size[1]])["auxiliary"])).all()


def test_at_the_published_size_it_is_the_published_head():
    """A 14 x 14 map is pooled 5 by 3 to 4 x 4, narrowed to 128 channels, and widened to 768."""
    net = CountingNet()
    effkeras.spec("nasnet-mobile").network.auxiliary_logits(net, Shape(14, 14, 528), 1000)
    assert net.shapes["auxiliary_narrow_conv", "kernel"] == (1, 1, 528, 128)
    assert net.shapes["auxiliary_wide_conv", "kernel"] == (4, 4, 128, 768)
    assert net.shapes["auxiliary_logits", "kernel"] == (768, 1000)


@pytest.mark.slow
def test_plain_compile_and_fit_train_both_outputs():
    keras.utils.set_random_seed(0)
    plain = build_spec(small_cells())
    model = with_auxiliary(plain)
    weighted = auxiliary_losses(model, keras.losses.SparseCategoricalCrossentropy)
    assert weighted["loss_weights"] == {"probabilities": 1.0, "auxiliary": 0.4}
    model.compile(keras.optimizers.Adam(1e-3), **weighted)
    labels = np.arange(12) % 3
    pixels = random_images(12, 32) / 8 + 100.0 * labels[:, None, None, None]
    targets = {"probabilities": labels, "auxiliary": labels}
    before = [np.asarray(w) for w in plain.trainable_weights]
    history = model.fit(pixels, targets, epochs=8, batch_size=12, verbose=0).history
    assert history["auxiliary_loss"][-1] < history["auxiliary_loss"][0]
    assert history["probabilities_loss"][-1] < history["probabilities_loss"][0]
    total = [
        a + 0.4 * b for a, b in zip(history["probabilities_loss"], history["auxiliary_loss"], strict=True)
    ]
    assert history["loss"] == pytest.approx(total, rel=1e-3)
    assert any((np.asarray(w) != old).any() for w, old in zip(plain.trainable_weights, before, strict=True))


@pytest.mark.slow
def test_the_auxiliary_loss_alone_reaches_the_early_cells_only():
    plain = build_spec(small_cells())
    model = with_auxiliary(plain)
    weighted = auxiliary_losses(model, keras.losses.SparseCategoricalCrossentropy)
    weighted["loss_weights"]["probabilities"] = 0.0
    model.compile(keras.optimizers.SGD(1.0), **weighted)
    before = {layer.name: layer.get_weights() for layer in plain.layers}
    labels = np.arange(8) % 3
    model.train_on_batch(random_images(8, 32), {"probabilities": labels, "auxiliary": labels})
    changed = {
        layer.name
        for layer in plain.layers
        if layer.trainable_weights
        and any((new != old).any() for new, old in zip(layer.get_weights(), before[layer.name], strict=True))
    }
    kernels = {name for name in changed if name.endswith("_conv")}
    assert {"stem_conv", "cell0_h_conv"} <= kernels
    assert not [name for name in kernels if name.startswith(("cell2", "reduction1"))]


def test_the_outputs_are_of_the_same_kind_and_float32():
    model = with_auxiliary(build_spec(small_cells(), activation=None, dtype="mixed_bfloat16"))
    assert list(model.output) == ["scores", "auxiliary"]
    assert {output.dtype for output in model.output.values()} == {"float32"}
    assert model.get_layer("auxiliary_wide_conv").compute_dtype == "bfloat16"


def test_only_classifiers_of_cells_have_the_head():
    for spec in (effkeras.spec("efficientnet-digits"), tiny_detector()):
        with pytest.raises(EffkerasError, match="is no classifier of cells"):
            with_auxiliary(build_spec(spec))
        assert auxiliary_weight(spec) == 0
    assert auxiliary_weight(small_cells()) == 0.4


def job(data: Path, out: Path, settings: TrainSettings = QUICK, **network: object) -> Job:
    spec = small_cells(**network)
    return Job(spec, open_data(data, "train"), open_data(data, "val"), settings, out)


@pytest.fixture(scope="module")
def run(digit_classes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cells"
    train(job(digit_classes, out))
    return out


@pytest.mark.slow
def test_training_improves_and_leaves_a_plain_model(run):
    losses = [json.loads(line)["loss"] for line in (run / "results.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    model = effkeras.load(run)
    assert model.output_names == ["probabilities"]
    assert not [layer.name for layer in model.layers if layer.name.startswith("auxiliary")]
    assert spec_of(model).network.auxiliary == 0.4  # training it further has the head again


@pytest.mark.slow
def test_the_head_is_not_exported(run, tmp_path):
    """Neither from a run folder nor from a file that still has it, as a checkpoint callback saves it."""
    plain = effkeras.load(run)
    with_auxiliary(plain).save(tmp_path / "both.keras")
    both = effkeras.load(tmp_path / "both.keras")
    pixels = random_images(2, 32)
    wanted = outputs_of_model(plain, pixels)
    artifact = LiteRTModel.of_bytes(ptq(both, "float32").flatbuffer)
    assert artifact.delegated().share == 1
    for outputs in (artifact(pixels), KerasPredictor.of(both)(pixels)):
        assert list(outputs) == ["probabilities"]
        np.testing.assert_allclose(outputs["probabilities"], wanted, atol=1e-5)


@pytest.mark.slow
def test_resuming_is_exact(run, digit_classes, tmp_path, monkeypatch):
    """Drop-path's progress and random choices, and the auxiliary head's weights, are resumed too."""
    from effkeras.training import session

    class StopError(Exception):
        pass

    whole = session.Session.validate

    def interrupted(self, step, logs):
        whole(self, step, logs)
        raise StopError

    monkeypatch.setattr(session.Session, "validate", interrupted)
    with pytest.raises(StopError):
        train(job(digit_classes, tmp_path / "run"))
    monkeypatch.undo()
    train(job(digit_classes, tmp_path / "run"))
    ours, theirs = (effkeras.load(folder).get_weights() for folder in (tmp_path / "run", run))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_frozen_backbone_keeps_its_weights(run, digit_classes, tmp_path):
    settings = dataclasses.replace(QUICK, epochs=1, freeze="backbone")
    made = dataclasses.replace(job(digit_classes, tmp_path / "run", settings), weights=str(run))
    after = train(made)
    before = effkeras.load(run)
    for old, new in zip(before.layers, after.layers, strict=True):
        same = all(map(np.array_equal, old.get_weights(), new.get_weights()))
        assert same == (new.name != "logits"), new.name
