"""Regularisers reach the graph, act in training only, and travel with the definition."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import keras
import numpy as np
import pytest
from support.tiny import random_images, tiny_classifier, tiny_detector

import effkeras
from effkeras import Regularization
from effkeras.definitions.changes import regularized
from effkeras.definitions.networks import DropBlockSpec
from effkeras.graph.counting import count
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import read_toml, to_record

ALL = Regularization(dropout=0.4, survival=0.6, drop_block=DropBlockSpec(keep=0.7, size=3))
NONE = Regularization(dropout=0.0, survival=1.0, drop_block=1.0)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    spec = tiny_classifier()
    blocks = ("r2_k3_s1_e1_i32_o16", *spec.network.blocks[1:], "r2_k3_s2_e2_i32_o32", "r2_k3_s2_e2_i32_o32")
    spec = spec.replace(network=dataclasses.replace(spec.network, blocks=blocks))
    return effkeras.build(spec, regularize=ALL)


def layers(model: keras.Model, kind: str) -> dict[str, keras.Layer]:
    return {layer.name: layer for layer in model.layers if type(layer).__name__ == kind}


def test_stochastic_depth_is_linear_in_the_block(model):
    drops = {name: layer.rate for name, layer in layers(model, "Dropout").items() if "block" in name}
    # Blocks with a shortcut of 8; the first never drops.
    assert drops == pytest.approx({f"block{i}_drop": 0.4 * i / 8 for i in (1, 3, 5, 7)})


def test_dropout_is_before_the_last_layer(model):
    assert model.get_layer("head_dropout").rate == 0.4


def test_drop_block_is_on_the_last_two_strides(model):
    found = {name: (layer.keep, layer.size) for name, layer in layers(model, "DropBlock").items()}
    weak, strong = pytest.approx((1 - 0.3 / 4, 3)), pytest.approx((0.7, 3))
    assert found == {
        "block4_drop_block": weak,
        "block5_drop_block": weak,
        "block6_drop_block": strong,
        "block7_drop_block": strong,
    }


def test_b0_drops_at_strides_16_and_32():
    b0 = effkeras.build("b0", input_shape=(64, 64), regularize=Regularization(drop_block=0.9))
    sides = {name: layer.output.shape[1] for name, layer in layers(b0, "DropBlock").items()}
    assert sides == {f"block{index}_drop_block": 4 if index < 11 else 2 for index in range(5, 16)}


def test_nothing_is_left_at_inference(model):
    plain = effkeras.build(
        spec_of(model), regularize=Regularization(drop_block=1.0, survival=1.0, dropout=0.0)
    )
    assert not layers(plain, "DropBlock")
    assert not layers(plain, "Dropout")
    plain.set_weights(model.get_weights())
    images = random_images(2, 32)
    np.testing.assert_array_equal(model(images, training=False), plain(images, training=False))
    assert np.abs(np.asarray(model(images, training=True) - plain(images, training=True))).max() > 0


def test_they_cost_no_weights_and_no_operations(model):
    spec = spec_of(model)
    assert count(spec) == count(regularized(spec, NONE))
    assert count(spec).total == model.count_params()


def test_they_travel_with_the_saved_model(model, tmp_path):
    model.save(tmp_path / "m.keras")
    again = effkeras.load(tmp_path / "m.keras")
    assert spec_of(again).network == spec_of(model).network
    for name, layer in layers(model, "DropBlock").items():
        assert again.get_layer(name).get_config() == layer.get_config()
    images = random_images(2, 32)
    np.testing.assert_array_equal(again(images), model(images))


def test_an_artifact_has_no_trace_of_them(model):
    from effkeras.litert.convert import to_flatbuffer
    from effkeras.litert.flatbuffer import operators

    plain = effkeras.build(
        spec_of(model), regularize=Regularization(drop_block=1.0, survival=1.0, dropout=0.0)
    )
    with_them, without = (Counter(op.name for op in operators(to_flatbuffer(one))) for one in (model, plain))
    assert with_them == without


def test_a_definition_may_ask_for_them(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('base = "b0"\n[network]\nsurvival = 0.9\ndrop_block = { keep = 0.8 }\n')
    assert effkeras.spec(file).network.drop_block == DropBlockSpec(keep=0.8, size=7)
    wanted = regularized(effkeras.spec("b0"), Regularization(survival=0.9, drop_block=0.8))
    assert effkeras.spec(file).network == wanted.network


def test_options_are_a_record_of_toml_too(tmp_path):
    (tmp_path / "r.toml").write_text("dropout = 0.4\n[drop_block]\nkeep = 0.9\n")
    with pytest.raises(EffkerasError, match="drop_blok"):
        to_record(Regularization, {"drop_blok": 0.9}, "r")
    assert read_toml(tmp_path / "r.toml")["dropout"] == 0.4


def test_nothing_given_changes_nothing():
    spec = effkeras.spec("b0")
    assert regularized(spec, Regularization()) is spec
    assert regularized(effkeras.spec("squeezenet-1.1"), Regularization()).network.dropout == 0.5


def test_a_number_keeps_the_size_of_the_definition():
    spec = regularized(effkeras.spec("b0"), Regularization(drop_block=DropBlockSpec(0.5, 3)))
    assert regularized(spec, Regularization(drop_block=0.9)).network.drop_block == DropBlockSpec(0.9, 3)


@pytest.mark.parametrize("name", ["dropout", "survival", "drop_block"])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan, math.inf, True, "0.9", [0.5]])
def test_what_is_no_share_is_refused(name, value):
    with pytest.raises(EffkerasError, match=name) as caught:
        effkeras.build("b0", regularize=Regularization(**{name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("b0", {"drop_block": 0.0}, "drop_block.keep must be above 0"),
        ("b0", {"drop_block": DropBlockSpec(0.9, 0)}, "drop_block.size must be above 0"),
        ("nasnet-mobile", {"drop_block": 0.5}, "has no drop_block to set; it has dropout, survival"),
        ("nasnet-mobile", {"survival": 0}, "survival must lie above 0"),
        ("b0", {"drop_block": DropBlockSpec(0.9, 2.5)}, "drop_block.size must be a whole number"),
        ("b0", {"drop_block": DropBlockSpec("0.9")}, "drop_block.keep must be a finite number"),
        ("b0", {"survival": DropBlockSpec(0.9)}, "survival must be a finite number"),
        ("squeezenet-1.1", {"survival": 0.9}, "has no survival to set; it has dropout"),
        ("d0", {"dropout": 0.2}, "which the detector efficientdet-d0 lacks"),
    ],
)
def test_regularisers_without_a_place_are_refused(model, options, message):
    with pytest.raises(EffkerasError, match=message):
        effkeras.build(model, regularize=Regularization(**options))


def test_another_record_is_refused():
    with pytest.raises(EffkerasError, match=r"must be an effkeras\.Regularization, not \{'dropout': 0\.2\}"):
        effkeras.build("b0", regularize={"dropout": 0.2})


def test_cells_take_survival_as_scheduled_drop_path():
    spec = effkeras.spec("nasnet-mobile")
    spec = spec.replace(network=dataclasses.replace(spec.network, repeats=1, filters=8, stem=8), classes=2)
    assert not layers(effkeras.build(spec, input_shape=(32, 32)), "DropPath")
    model = effkeras.build(spec, input_shape=(32, 32), regularize=Regularization(survival=0.6, dropout=0.1))
    assert min(layer.keep for layer in layers(model, "DropPath").values()) == pytest.approx(0.6)
    assert model.get_layer("head_dropout").rate == 0.1


def test_a_detector_takes_them_in_its_backbone():
    detector = effkeras.build(tiny_detector(), regularize=Regularization(survival=0.5, drop_block=0.9))
    assert layers(detector, "DropBlock")
    outputs = detector(random_images(2, 64), training=True)
    assert all(np.isfinite(value).all() for value in outputs.values())
