"""Stages of a backbone, their learning rates, and freezing until a step."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from support.tiny import tiny_detector

from effkeras.building.models import build_spec
from effkeras.definitions import zoo
from effkeras.support.errors import EffkerasError
from effkeras.training.compiling import compile_for
from effkeras.training.freezing import Unfreeze, frozen_layers, rules_for, stages_of
from effkeras.training.optimizers import FlatAdamW, OptimizerOptions, UpdateRule, optimizer_for
from effkeras.training.settings import TrainSettings


@pytest.fixture(scope="module")
def detector():
    return build_spec(tiny_detector())


def test_a_stage_is_what_has_the_same_size(detector):
    stages = stages_of(detector, tiny_detector())
    assert list(stages.values()) == sorted(stages.values())
    assert set(stages.values()) == {1, 2, 3, 4, 5}
    for name, stage in stages.items():
        height = detector.get_layer(name).output.shape[1]
        assert height in (64 // 2**stage, 1), name
    assert not any(name.startswith(("fpn", "class_", "box_")) for name in stages)


def test_squeeze_and_excitation_belongs_to_its_block():
    spec = zoo.spec("efficientnet-b0")
    network = dataclasses.replace(spec.network, blocks=spec.network.blocks[:3], width=0.25)
    spec = spec.replace(network=network, input=dataclasses.replace(spec.input, size=(32, 32)))
    stages = stages_of(build_spec(spec), spec)
    inside = [name for name in stages if "_se_" in name]
    assert inside
    for name in inside:
        assert stages[name] == stages[name.split("_")[0] + "_depthwise_conv"]


def test_stages_are_frozen_from_the_first(detector):
    spec = tiny_detector()
    stages = stages_of(detector, spec)
    frozen = {layer.name for layer in frozen_layers(detector, spec, "stages:2")}
    assert frozen == {name for name, stage in stages.items() if stage <= 2}
    assert {layer.name for layer in frozen_layers(detector, spec, "backbone")} == set(stages)
    assert frozen_layers(detector, spec, "none") == ()
    with pytest.raises(EffkerasError, match="tiny has 5 stages to freeze, not 6"):
        frozen_layers(detector, spec, "stages:6")


def test_rates_fall_from_the_last_stage_to_the_first(detector):
    spec = tiny_detector()
    assert rules_for(detector, spec, TrainSettings()) == {}
    settings = TrainSettings(
        epochs=1, backbone_rate=0.5, layer_decay=0.1, freeze="stages:1", unfreeze_at=0.5, optimizer="sgd"
    )
    rules = rules_for(detector, spec, settings)
    assert rules["stem_conv/kernel"] == UpdateRule(pytest.approx(0.5 * 0.1**4), True)
    assert rules["block10_depthwise_conv/kernel"] == UpdateRule(0.5, False)
    assert not any(path.startswith(("class_", "fpn")) for path in rules)
    compile_for(detector, spec, settings, steps=3)
    assert dict(detector.optimizer.rules) == rules


def small_model(name: str) -> keras.Model:
    """Two convolutions with batch normalisation, of which the first may be frozen."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4, 4, 1))
    y = x
    for part in ("first", "last"):
        y = keras.layers.Conv2D(2, 3, padding="same", use_bias=False, name=part)(y)
        y = keras.layers.BatchNormalization(name=f"{part}_bn")(y)
    model = keras.Model(x, keras.layers.GlobalAveragePooling2D()(y))
    late = {variable.path: UpdateRule(0.5, True) for variable in first(model, "trainable_variables")}
    model.compile(optimizer_for(name, 0.1, OptimizerOptions(1e-3, 1.0), late), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def first(model: keras.Model, which: str = "weights") -> list:
    return [one for name in ("first", "first_bn") for one in getattr(model.get_layer(name), which)]


def fit(model: keras.Model, start: int, stop: int, at: float) -> list[bool]:
    """Trains on the given steps; whether the first layers have changed in each."""
    changed: list[bool] = []
    before = [one.numpy() for one in first(model)]

    def compare(batch, logs):
        now = [one.numpy() for one in first(model)]
        changed.append(not all(map(np.array_equal, now, before)))
        before[:] = now

    layers = [model.get_layer("first"), model.get_layer("first_bn")]
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(16, 4, 4, 1)), draw.normal(size=(16, 2))
    model.fit(
        x[2 * start : 2 * stop],
        y[2 * start : 2 * stop],
        batch_size=2,
        shuffle=False,
        verbose=0,
        callbacks=[
            Unfreeze(layers, at, start, lambda step: step / 8),
            keras.callbacks.LambdaCallback(on_train_batch_end=compare),
        ],
    )
    return changed


@pytest.mark.parametrize(("name", "stop"), [("adamw", 2), pytest.param("rmsprop", 5, marks=pytest.mark.slow)])
def test_layers_train_from_a_step_on_and_a_resumed_training_is_the_same(name, stop):
    """Their batch normalisation keeps its statistics as long."""
    whole, begun, resumed = (small_model(name) for _ in range(3))
    assert fit(whole, 0, 8, at=3) == [False] * 3 + [True] * 5
    fit(begun, 0, stop, at=3 / 8)
    states = [[*model.variables, *model.optimizer.variables] for model in (resumed, begun)]
    for ours, theirs in zip(*states, strict=True):
        ours.assign(theirs)
    fit(resumed, stop, 8, at=3 / 8)
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_nothing_to_freeze_is_no_change():
    model = small_model("adamw")
    callback = Unfreeze((), 0.0, 0, lambda step: 0.0)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_train_batch_begin(0)
    assert model.train_function is None
    assert isinstance(model.optimizer, FlatAdamW)
