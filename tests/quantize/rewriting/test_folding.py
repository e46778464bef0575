"""Batch norm folding: the same outputs without it, for every family and for models of one's own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.tiny import tiny_cells
from support.tiny_models import SIDE, keras_outputs, random_images, randomize, tiny_model, tiny_spec

import effkeras
from effkeras import EffkerasError
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_size
from effkeras.layers.normalize import spec_of
from quantize import fold

# Of the outputs' standard deviation.
TOLERANCE = 1e-3
QUICK = (
    "efficientdet-lite0",
    "mobilenet-v3-small",
    pytest.param("efficientdet-d0", marks=pytest.mark.slow),
    pytest.param("mixnet-s", marks=pytest.mark.slow),
    pytest.param("efficientnet-b0", marks=pytest.mark.nightly("zoo")),
)
FAMILIES = (
    "efficientnet-lite0",
    "efficientnet-edgetpu-s",
    "efficientnetv2-b0",
    "mnasnet-a1",
    "mobilenet-v2",
    "pnasnet-mobile",
    "nasnet-mobile",
    "resnet50",
    "resnet50v2",
    "densenet121",
    "convnexttiny",
)


@pytest.mark.parametrize("name", QUICK)
def test_outputs_stay_the_same(name):
    _folds_without_a_trace(tiny_model(name) if name in tiny_names() else _randomized(tiny_spec(name)))


@pytest.mark.slow
def test_cells_fold():
    _folds_without_a_trace(_randomized(tiny_cells(size=(SIDE, SIDE))))


@pytest.mark.nightly("zoo")
@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_stay_the_same_for_whole_networks(name):
    _folds_without_a_trace(_randomized(with_size(effkeras.spec(name), (SIDE, SIDE))))


@pytest.mark.nightly("zoo")
@pytest.mark.parametrize("name", ["xception", "inceptionv3"])
def test_outputs_stay_the_same_for_networks_that_take_no_small_images(name):
    _folds_without_a_trace(_randomized(with_size(effkeras.spec(name), (96, 96))))


def tiny_names() -> tuple[str, ...]:
    return ("efficientdet-lite0", "efficientdet-d0", "efficientnet-b0")


def _randomized(spec) -> keras.Model:
    model = build_spec(spec, activation=None)
    randomize(model)
    return model


def _folds_without_a_trace(model: keras.Model) -> None:
    before = model.get_weights()
    folded = fold(model, probe=random_images(1, side=model.input.shape[1]))
    left = [layer for layer in folded.model.layers if _is_norm(layer)]
    assert left == []
    _same_outputs(model, folded.model)
    norms = {layer.name for layer in model.layers if _is_norm(layer)}
    assert {entry.name for entry in folded.report.done} == norms
    assert folded.report.skipped == ()
    assert max((entry.error for entry in folded.report.done), default=0) < TOLERANCE
    assert spec_of(folded.model) == spec_of(model)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def _same_outputs(model: keras.Model, folded: keras.Model) -> None:
    pixels = random_images(4, side=model.input.shape[1])
    wanted, got = keras_outputs(model, pixels), keras_outputs(folded, pixels)
    for name, values in wanted.items():
        assert np.abs(values - got[name]).max() < TOLERANCE * values.std()


def _is_norm(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def test_a_shared_head_keeps_its_depthwise_kernel_and_gets_a_pointwise_one_per_level():
    names = {layer.name for layer in fold(tiny_model("efficientdet-lite0")).model.layers}
    assert {f"class0_p{level}_conv" for level in range(3, 8)} <= names
    assert "class0_conv_depthwise" in names
    assert not any(name.startswith("class0_p3") and name.endswith("depthwise") for name in names)
    assert {"class_predict", "class_predict_depthwise"} <= names  # shared, with nothing to fold


def test_a_folded_model_is_saved_and_loaded(tmp_path):
    folded = fold(tiny_model("efficientdet-d0")).model
    folded.save(tmp_path / "folded.keras")
    loaded = effkeras.load(tmp_path / "folded.keras")
    for ours, theirs in zip(loaded.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def own_model() -> keras.Model:
    """Each case once: nested, shared with one norm and with two, before an activation, after a sum, dense."""
    layers = keras.layers
    x = image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.BatchNormalization(name="first")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="active")(x)
    x = layers.BatchNormalization(name="after_relu")(x)
    inner_in = keras.Input((SIDE, SIDE, 8))
    y = layers.SeparableConv2D(8, 3, padding="same", use_bias=False, name="separable")(inner_in)
    y = layers.BatchNormalization(scale=False, name="unscaled")(y)
    inner = keras.Model(inner_in, layers.Activation("relu")(y), name="inner")
    x = layers.Add(name="sum")([inner(x), x])
    x = layers.BatchNormalization(center=False, name="after_sum")(x)
    shared = layers.Conv2D(8, 3, padding="same", name="shared")
    left, right = shared(x), shared(layers.ReLU()(x))
    left = layers.BatchNormalization(name="left_bn")(left)
    right = layers.BatchNormalization(name="right_bn")(right)
    x = layers.Concatenate(name="joined")([left, right])
    parts = [
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="doubled")(x),
        layers.Conv2D(4, 3, name="plain")(x),
    ]
    x = layers.BatchNormalization(name="over_both")(layers.Concatenate()(parts))
    x = layers.Conv2DTranspose(6, 3, strides=2, name="larger")(x)
    x = layers.BatchNormalization(name="larger_bn")(x)
    x = layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D()(x))
    x = layers.BatchNormalization(name="dense_bn")(x)
    return keras.Model(image, layers.Softmax(name="chances")(layers.Dense(3, name="last")(layers.ReLU()(x))))


def test_a_model_of_ones_own():
    model = own_model()
    randomize(model)
    folded = fold(model, probe=random_images(1) / 255)
    assert not any(map(_is_norm, folded.model.layers))
    pixels = random_images(4) / 255
    np.testing.assert_allclose(
        outputs_of_model(folded.model, pixels),
        outputs_of_model(model, pixels),
        atol=1e-5,
    )
    became = {entry.name: entry.why for entry in folded.report.layers}
    assert became["inner_unscaled"] == "into inner_separable"
    assert became["over_both"] == "into doubled, plain"
    assert became["left_bn"] == "into left_conv"
    assert became["larger_bn"] == "into larger"
    assert became["dense_bn"] == "into dense"
    for alone in ("first", "after_relu", "after_sum"):
        assert became[alone].startswith("as a 1x1 depthwise convolution")
        assert isinstance(folded.model.get_layer(alone), keras.layers.DepthwiseConv2D)


def test_a_convolution_shared_with_its_norm_stays_shared():
    x = image = keras.Input((SIDE, SIDE, 3))
    conv, norm = (
        keras.layers.Conv2D(3, 3, padding="same", name="conv"),
        keras.layers.BatchNormalization(name="bn"),
    )
    x = norm(conv(norm(conv(x))))
    model = keras.Model(image, x)
    randomize(model)
    folded = fold(model).model
    assert [layer.name for layer in folded.layers if layer.weights] == ["bn_conv"]
    np.testing.assert_allclose(folded(random_images(1)), model(random_images(1)), rtol=1e-3, atol=1e-2)


def test_what_cannot_be_folded_is_named():
    x = image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    x = keras.layers.BatchNormalization(axis=1, name="rows")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    x = keras.layers.BatchNormalization(name="pooled")(x)
    report = fold(keras.Model(image, x)).report
    assert {entry.name: entry.why for entry in report.skipped} == {
        "rows": "it normalises axis 1, not the channels",
        "pooled": "no dense layer used only here comes before it",
    }
    with pytest.raises(EffkerasError, match=r"fold: rows \(BatchNormalization\) was skipped"):
        report.check_strict()


class Standardized(keras.layers.Conv2D):
    """What it computes with is not its kernel."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel / (1 + keras.ops.std(kernel)))


def test_a_subclass_of_a_convolution_takes_no_norm_in():
    x = image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.BatchNormalization(name="bn")(Standardized(4, 3, name="standardized")(x))
    model = keras.Model(image, x)
    randomize(model)
    folded = fold(model)
    assert folded.report.layers[0].why.startswith("as a 1x1 depthwise convolution")
    np.testing.assert_allclose(folded.model(random_images(1)), model(random_images(1)), rtol=1e-3, atol=1e-2)


def test_weights_that_are_not_finite_are_named():
    model = own_model()
    layer = model.get_layer("active")
    layer.set_weights([np.full_like(layer.kernel, np.nan), np.zeros(8)])
    with pytest.raises(EffkerasError, match=r"active/kernel of 'functional.*' is not finite"):
        fold(model)
