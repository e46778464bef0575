"""Networks of keras.applications under our roof compute what Keras's own models compute."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from support.proofs import KERAS, proves

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import count
from effkeras.graph.keras_applications import fresh_names, skeleton
from effkeras.graph.networks.application import ApplicationNetwork
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import load, save

MODELS = [name for name in effkeras.list_models() if effkeras.spec(name).family == "application"]
QUICK = ("mobilenet", "resnet50v2", "vgg16")
# keras.applications' module that holds a model's preprocess_input
PREPROCESSING = {
    "convnext": "convnext",
    "densenet": "densenet",
    "inceptionres": "inception_resnet_v2",
    "inceptionv": "inception_v3",
    "mobilenet": "mobilenet",
    "resnet": "resnet",
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "xception": "xception",
}


def _params() -> list:
    return [
        pytest.param(
            name,
            marks=[
                proves(name, KERAS),
                *([] if name in QUICK else [pytest.mark.nightly("zoo")]),
                *([pytest.mark.slow] if name == "resnet50v2" else []),
            ],
        )
        for name in MODELS
    ]


def preprocessing(spec: ModelSpec):
    if spec.name.startswith("resnet") and spec.name.endswith("v2"):
        return keras.applications.resnet_v2.preprocess_input
    key = next(key for key in PREPROCESSING if spec.name.startswith(key))
    return getattr(keras.applications, PREPROCESSING[key]).preprocess_input


def images(size: tuple[int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, *size, 3)).astype(np.float32)


def original(spec: ModelSpec) -> keras.Model:
    """Keras's own model with top, with random weights that no layer ignores."""
    build = getattr(keras.applications, spec.network.function)
    model = build(weights=None, input_shape=(*spec.input.size, 3), classes=spec.classes)
    draw = np.random.default_rng(1)
    for weight in model.weights:
        value = np.asarray(weight)
        if weight.name in ("moving_mean", "beta", "bias"):
            value = draw.normal(0, 0.1, weight.shape)
        elif weight.name == "moving_variance":
            value = draw.uniform(0.5, 1.5, weight.shape)
        elif weight.name == "gamma" or "layer_scale" in weight.path:
            value = draw.uniform(0.5, 1.0, weight.shape)
        weight.assign(value)
    return model


def copy_weights(theirs: keras.Model, ours: keras.Model) -> None:
    """By layer name; layers of our top take what is left, in order."""
    by_name = {layer.name: layer for layer in ours.layers}
    fresh = fresh_names(theirs)
    top = [layer for layer in ours.layers if layer.weights and layer.name.startswith(("head", "hidden"))]
    top.append(ours.get_layer("logits"))
    for layer in theirs._flatten_layers(include_self=False, recursive=True):
        if not layer.weights or isinstance(layer, keras.Model):
            continue
        name = fresh.get(layer.name, layer.name)
        target = by_name[name] if name in by_name else top.pop(0)
        target.set_weights(
            [
                value.reshape(weight.shape)
                for value, weight in zip(layer.get_weights(), target.weights, strict=True)
            ]
        )
    assert not top
    network = spec_of(ours).network
    if network.channel_order == "bgr":
        first = next(layer for layer in ours.layers if isinstance(layer, keras.layers.Conv2D))
        first.kernel.assign(np.asarray(first.kernel)[:, :, ::-1])


@pytest.mark.parametrize("name", _params())
def test_outputs_are_those_of_keras(name):
    spec = with_size(effkeras.spec(name), (80, 96) if name not in QUICK else (64, 64))
    theirs, ours = original(spec), build_spec(spec)
    assert ours.count_params() == theirs.count_params()
    copy_weights(theirs, ours)
    pixels = images(spec.input.size)
    wanted = np.asarray(theirs(preprocessing(spec)(pixels.copy()), training=False))
    got = np.asarray(ours(pixels, training=False))
    assert wanted.std() > 1e-5
    np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "mobilenet" else [pytest.mark.nightly("zoo")]) for n in MODELS]
)
def test_published_figures_are_those_counted(name):
    spec = effkeras.spec(name)
    counts = count(spec)
    assert spec.published.parameters == counts.trainable
    assert spec.published.macs == counts.macs


def test_vgg_has_its_three_dense_layers():
    # arXiv:1409.1556, table 2: 138 million
    assert count(effkeras.spec("vgg16")).total == 138_357_544


@pytest.mark.parametrize("name", MODELS)
def test_pixels_are_normalised_as_keras_does(name):
    spec = effkeras.spec(name)
    pixels = images((2, 2), count=1)
    wanted = preprocessing(spec)(pixels.copy())
    if name.startswith("convnext"):  # inside the model
        layer = keras.applications.convnext.preprocess_input
        assert wanted is layer(wanted)
        mean, deviation = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
        wanted = (pixels - mean) / deviation
    if spec.network.channel_order == "bgr":
        wanted = wanted[..., ::-1]
    ours = (pixels - np.array(spec.input.mean)) / np.array(spec.input.std)
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


def small(name: str, **changes: object) -> ModelSpec:
    spec = with_size(effkeras.spec(name), (64, 64))
    return spec.replace(network=dataclasses.replace(spec.network, **changes))


def test_layer_names_do_not_depend_on_what_was_built_before():
    first = build_spec(small("mobilenet"))
    keras.Sequential([keras.layers.Conv2D(1, 1), keras.layers.ReLU(), keras.layers.Dropout(0.1)])
    second = build_spec(small("mobilenet"))
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


def test_names_are_those_of_a_fresh_process():
    keras.layers.Conv2D(1, 1)
    names = fresh_names(skeleton("InceptionV3", (96, 96))).values()
    assert {"conv2d", "conv2d_93", "batch_normalization", "activation_93", "mixed10"} <= set(names)
    assert "conv2d_94" not in names
    assert len(set(names)) == len(names)


def test_a_saved_model_is_the_same_again(tmp_path):
    model = build_spec(small("mobilenet"))
    save(model, tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    assert spec_of(again) == small("mobilenet")
    pixels = images((64, 64))
    np.testing.assert_allclose(again(pixels), model(pixels), rtol=1e-6)


def test_layers_take_the_dtype_policy():
    model = build_spec(small("mobilenet"), dtype="mixed_bfloat16")
    assert model.get_layer("conv_pw_5").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"function": "MobileNett"}, r"keras.applications has no 'MobileNett'; did you mean 'MobileNet'\?"),
        ({"function": "layers"}, "keras.applications has no 'layers'"),
        (
            {"taps": ("conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_33_relu")},
            "MobileNet has no layer 'conv_pw_33_relu' to tap; did you mean",
        ),
        ({"taps": ("conv_pw_5_relu",)}, "taps must name three layers"),
        ({"hidden": (0,)}, "hidden widths must be above 0"),
        ({"dropout": 1.0}, "dropout must lie between 0 and 1"),
    ],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(EffkerasError, match=message):
        build_spec(small("mobilenet", **changes))


def test_a_image_that_is_too_small_is_refused():
    with pytest.raises(EffkerasError, match="InceptionV3 on images of 64 x 64"):
        build_spec(small("inceptionv3"))


def test_a_definition_says_what_keras_builds():
    for name in MODELS:
        network = effkeras.spec(name).network
        assert isinstance(network, ApplicationNetwork)
        assert network.function.lower() == name
