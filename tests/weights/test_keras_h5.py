"""Weights of keras.applications load, and the networks then compute what keras.applications computes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from support.eager import outputs_of_model
from support.proofs import KERAS, proven

import effkeras
from effkeras.support.errors import EffkerasError
from effkeras.weights.loading import load_weights, open_weights

SIDE = 64
QUICK: dict[str, Callable] = {
    "mobilenet-v3-small": keras.applications.MobileNetV3Small,
}
SLOW: dict[str, Callable] = {
    "mobilenet-v2": keras.applications.MobileNetV2,
    "efficientnet-b0": keras.applications.EfficientNetB0,
    "efficientnetv2-b0": keras.applications.EfficientNetV2B0,
}
NIGHTLY: dict[str, Callable] = {
    "efficientnet-b3": keras.applications.EfficientNetB3,
    "efficientnetv2-s": keras.applications.EfficientNetV2S,
    "efficientnetv2-b3": keras.applications.EfficientNetV2B3,
    "mobilenet-v2-0.35": partial(keras.applications.MobileNetV2, alpha=0.35),
    "mobilenet-v2-1.4": partial(keras.applications.MobileNetV2, alpha=1.4),
    "mobilenet-v3-large": keras.applications.MobileNetV3Large,
    "mobilenet-v3-large-0.75": partial(keras.applications.MobileNetV3Large, alpha=0.75),
    "mobilenet-v3-large-minimalistic": partial(keras.applications.MobileNetV3Large, minimalistic=True),
    "nasnet-mobile": keras.applications.NASNetMobile,
    "mobilenet": keras.applications.MobileNet,
    "densenet121": keras.applications.DenseNet121,
    "mobilenet-v3-small-minimalistic": partial(keras.applications.MobileNetV3Small, minimalistic=True),
}


def twin(name: str, **options: object) -> keras.Model:
    """keras.applications' model, every weight random and none that a layer could do without."""
    build = (QUICK | SLOW | NIGHTLY)[name]
    # Layers without a name of their own are numbered; a fresh count makes that as in a fresh process.
    keras.backend.clear_session()
    model = build(weights=None, classifier_activation=None, input_shape=(SIDE, SIDE, 3), **options)
    gain = 0.7 if any(part in name for part in ("v2-", "nasnet")) else 0.8
    for weight in model.weights:
        if "count" not in weight.name:
            weight.assign(value(weight.path, tuple(weight.shape), gain))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def images(seed: int) -> np.ndarray:
    """Patches of one colour each: noise alone would be averaged away."""
    colours = np.random.default_rng(seed).uniform(0, 255, (2, 8, 8, 3))
    return colours.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return images(0)


def value(path: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """`gain` keeps signals from dying out, or exploding, from block to block."""
    draw = np.random.default_rng(zlib.crc32(path.encode()))
    leaf = path.rsplit("/", 1)[-1]
    if path.startswith("normalization"):
        return {"mean": draw.uniform(0.3, 0.6, shape), "variance": draw.uniform(0.04, 0.09, shape)}[leaf]
    if leaf == "gamma":
        return draw.uniform(gain, gain + 0.6, shape)
    if leaf == "moving_variance":
        return draw.uniform(0.6, 1.6, shape)
    if len(shape) == 1:
        return draw.normal(0, 0.2, shape)
    is_depthwise = any(part in path for part in ("dwconv", "depthwise", "conv_dw_"))
    inputs = np.prod(shape[:2] if is_depthwise else shape[:-1])
    return draw.normal(0, np.sqrt(1.5 / inputs), shape)


def save_v3(model: keras.Model, folder: Path) -> Path:
    path = folder / "model.weights.h5"
    model.save_weights(path)
    return path


def save_nameless_v3(model: keras.Model, folder: Path) -> Path:
    """As the first releases of Keras 3 wrote it."""
    path = save_v3(model, folder)
    with h5py.File(path, "r+") as file:
        for layer in file["layers"].values():
            if "vars" in layer:
                del layer["vars"].attrs["name"]
    return path


def save_tf_v3(model: keras.Model, folder: Path) -> Path:
    """As the Keras of TensorFlow 2.12 to 2.15 wrote it."""
    path = save_nameless_v3(model, folder)
    with h5py.File(path, "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    return path


def save_legacy(model: keras.Model, folder: Path) -> Path:
    """As keras.applications' files are: Keras 2's names of variables end with :0."""
    path = folder / "model.h5"
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
        for layer in model.layers:
            _rename_as_keras_2(file[layer.name])
    return path


def _rename_as_keras_2(group: h5py.Group) -> None:
    names = [str(name) for name in group.attrs["weight_names"]]
    for name in names:
        group.move(name, f"{name}:0")
    if names:
        group.attrs["weight_names"] = np.array([f"{name}:0".encode() for name in names])


def save_whole(model: keras.Model, folder: Path) -> Path:
    """A whole model in one .h5 file keeps its weights one level deeper."""
    path = folder / "model.h5"
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file.create_group("model_weights"), model)
    return path


def theirs(model: keras.Model, name: str, pixels: np.ndarray) -> np.ndarray:
    """Its outputs for pixels 0..255: several leave preprocessing to their users."""
    if name == "densenet121":
        pixels = (pixels - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    elif name.startswith(("mobilenet-v2", "nasnet")) or name == "mobilenet":
        pixels = pixels / 127.5 - 1
    return outputs_of_model(model, pixels)


@pytest.fixture(scope="module")
def small() -> keras.Model:
    return twin("mobilenet-v3-small")


@pytest.mark.parametrize(
    "name",
    [
        *proven(QUICK, KERAS),
        *proven(SLOW, KERAS, pytest.mark.slow),
        *proven(NIGHTLY, KERAS, pytest.mark.nightly("zoo")),
    ],
)
def test_outputs_equal_keras_applications(name, pixels, tmp_path):
    model = twin(name)
    wanted = theirs(model, name, pixels)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-2 * wanted.std()  # they do depend on the image
    path = save_v3(model, tmp_path)
    ours = effkeras.build(name, input_shape=(SIDE, SIDE), weights=path, activation=None)
    assert np.abs(outputs_of_model(ours, pixels) - wanted).max() < 1e-4 * wanted.std()
    loaded = ours.get_weights()
    ours.set_weights([np.zeros_like(weight) for weight in loaded])
    assert load_weights(ours, save_legacy(model, tmp_path)).skipped == ()
    assert all((one == other).all() for one, other in zip(loaded, ours.get_weights(), strict=True))


@pytest.mark.parametrize("save", [save_nameless_v3, save_tf_v3, save_whole])
def test_older_layouts_hold_the_same(save, small, tmp_path):
    ours = effkeras.build("mobilenet-v3-small", input_shape=(32, 32))
    load_weights(ours, save_v3(small, tmp_path))
    loaded = ours.get_weights()
    ours.set_weights([np.zeros_like(weight) for weight in loaded])
    load_weights(ours, save(small, tmp_path))
    assert all((one == other).all() for one, other in zip(loaded, ours.get_weights(), strict=True))


def test_imagenets_deviations_stored_as_variances_are_taken_for_what_they_are(tmp_path):
    model = twin("efficientnet-b0")
    layer = next(layer for layer in model.layers if layer.name.startswith("normalization"))
    layer.adapt_mean.assign([0.485, 0.456, 0.406])
    layer.adapt_variance.assign([0.229, 0.224, 0.225])
    spec = effkeras.spec("efficientnet-b0")
    opened = open_weights(spec, save_legacy(model, tmp_path))
    # The published files come with a further layer that makes up for the missing square.
    np.testing.assert_allclose(opened.spec.input.mean, spec.input.mean, rtol=1e-5)
    np.testing.assert_allclose(opened.spec.input.std, spec.input.std, rtol=1e-5)


@pytest.mark.parametrize("save", [save_v3, save_legacy])
def test_without_top_the_classifier_keeps_its_start(save, tmp_path, caplog):
    model = twin("mobilenet-v3-small", include_top=False)
    path = save(model, tmp_path)
    ours = effkeras.build("mobilenet-v3-small", input_shape=(SIDE, SIDE))
    before = ours.get_layer("logits").get_weights()
    report = load_weights(ours, path)
    assert report.loaded == len(model.weights)
    assert len(report.skipped) == 4
    assert "keeps its random start" in caplog.text
    np.testing.assert_array_equal(ours.get_layer("logits").get_weights()[0], before[0])


def test_other_classes_keep_their_predictor(tmp_path):
    path = save_legacy(twin("mobilenet-v2", classes=7), tmp_path)
    ours = effkeras.build("mobilenet-v2", input_shape=(SIDE, SIDE), classes=3)
    assert load_weights(ours, path).skipped == ("predictions/kernel", "predictions/bias")


@pytest.mark.parametrize("save", [save_v3, save_legacy])
def test_weights_of_our_own_models(save, pixels, tmp_path):
    model = effkeras.build("efficientnet-digits", weights="digits", activation=None)
    ours = effkeras.build("efficientnet-digits", weights=save(model, tmp_path), activation=None)
    np.testing.assert_array_equal(
        outputs_of_model(ours, pixels[:, :32, :32]), outputs_of_model(model, pixels[:, :32, :32])
    )


@pytest.mark.parametrize("save", [save_v3, save_legacy])
def test_another_model_is_refused_and_nothing_is_loaded(save, small, tmp_path):
    path = save(small, tmp_path)
    ours = effkeras.build("efficientnet-b0", input_shape=(32, 32))
    before = ours.get_weights()
    with pytest.raises(EffkerasError, match=r"not a checkpoint of this model.* missing: stem_conv.*extra"):
        load_weights(ours, path)
    assert all((old == new).all() for old, new in zip(before, ours.get_weights(), strict=True))


@pytest.mark.parametrize("keep", [9, 600, 0.3, 0.9])
@pytest.mark.parametrize("save", [save_v3, save_legacy])
def test_a_cut_file_is_refused(save, keep, tmp_path):
    model = effkeras.build("efficientnet-digits")
    path = save(model, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(EffkerasError, match=path.name):
        load_weights(model, path)


def test_an_hdf5_file_of_something_else_is_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["table"] = np.zeros(3)
    with pytest.raises(EffkerasError, match="neither layers nor layer_names"):
        open_weights(effkeras.spec("b0"), tmp_path / "other.h5")
