"""Models are plain Keras: they build, save, load, clone and train."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_classes, with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.losses import detector_losses
from effkeras.graph.counting import count
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import load, save

ROOT = Path(__file__).parents[2]
OUTPUTS = ("class_logits", "box_deltas")
FRESH = """
import sys
import numpy as np

import effkeras

effkeras.spec("d0")
assert not {"tensorflow", "keras"} & set(sys.modules), "importing effkeras is no longer light"

import keras
import effkeras.layers

folder = sys.argv[1]
pixels = np.load(f"{folder}/pixels.npy")
bare = keras.models.load_model(f"{folder}/model.keras")(pixels, training=False)

# The second way shall not profit from what the first has registered.
keras.saving.get_custom_objects().clear()
for name in [name for name in sys.modules if name.partition(".")[0] == "effkeras"]:
    del sys.modules[name]
import effkeras

ours = effkeras.load(f"{folder}/model.keras")(pixels, training=False)
np.savez(f"{folder}/outputs.npz", **{f"bare_{k}": v for k, v in bare.items()}, **ours)
"""


@functools.cache
def tiny(classes: int = 3) -> ModelSpec:
    spec = effkeras.spec("d0")
    return with_classes(spec, classes).replace(
        name="tiny",
        input=dataclasses.replace(spec.input, size=(64, 64)),
        network=dataclasses.replace(spec.network, width=0.35, depth=0.3),
        fpn=dataclasses.replace(spec.fpn, channels=24, cells=1),
        head=dataclasses.replace(spec.head, repeats=1),
    )


@pytest.fixture(scope="module")
def detector() -> keras.Model:
    model = build_spec(tiny())
    draw = np.random.default_rng(0)
    # Moving averages at their start would hide a mistake in what is saved.
    noisy = [value + draw.uniform(0, 0.1, value.shape).astype(np.float32) for value in model.get_weights()]
    model.set_weights(noisy)
    return model


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    return effkeras.build("efficientnet-digits")


@pytest.fixture(scope="module")
def file(detector, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "model.keras"
    save(detector, path)
    return path


def pixels(height: int = 64, width: int = 64, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3)).astype(np.float32)


def run(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs without what `predict` spends on compiling."""
    return {name: value.numpy() for name, value in model(images, training=False).items()}


def assert_same(ours: dict, theirs: dict) -> None:
    assert set(ours) == set(theirs) == set(OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5)


def test_a_model_is_plain_keras(detector, classifier):
    for model in (detector, classifier):
        assert isinstance(model, keras.Model)
        assert type(model).__name__ == "Functional"
        assert model.input_shape[1:] == (*spec_of(model).input.size, 3)


def test_a_detector_gives_a_row_per_anchor(detector):
    outputs = run(detector, pixels())
    count = len(anchor_boxes(tiny()))
    assert count == 9 * (64 + 16 + 4 + 1 + 1)
    assert {name: value.shape for name, value in outputs.items()} == {
        "class_logits": (2, count, 3),
        "box_deltas": (2, count, 4),
    }


def test_a_classifier_gives_probabilities(classifier):
    outputs = classifier.predict(pixels(32, 32), verbose=0)
    assert outputs.shape == (2, 10)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)


def test_without_activation_a_classifier_gives_logits(classifier):
    logits = effkeras.build("efficientnet-digits", activation=None)
    logits.set_weights(classifier.get_weights())
    outputs = logits.predict(pixels(32, 32), verbose=0).astype(np.float64)
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, classifier.predict(pixels(32, 32), verbose=0), rtol=1e-4)


def test_options_change_the_definition_that_the_model_carries():
    model = effkeras.build("efficientnet-digits", input_shape=(48, 40, 3), classes=["cat", "dog"])
    spec = spec_of(model)
    assert model.input_shape == (None, 48, 40, 3)
    assert model.output_shape == (None, 2)
    assert (spec.input.size, spec.classes, spec.labels) == ((48, 40), 2, ("cat", "dog"))


@pytest.mark.parametrize("size", [(96, 160), (100, 132), (33, 65)])
def test_odd_sizes_have_a_row_per_anchor(size):
    spec = with_size(tiny(), size)
    outputs = run(build_spec(spec), pixels(*size, count=1))
    assert outputs["box_deltas"].shape == (1, len(anchor_boxes(spec)), 4)


def test_outputs_stay_float32_in_mixed_precision(detector):
    model = build_spec(tiny(), dtype="mixed_bfloat16")
    model.set_weights(detector.get_weights())
    assert model.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    outputs, exact = (run(one, pixels()) for one in (model, detector))
    for name in OUTPUTS:
        assert outputs[name].dtype == np.float32
        assert np.abs(outputs[name] - exact[name]).mean() < 0.1 * np.abs(exact[name]).mean()
    classifier = effkeras.build("efficientnet-digits", dtype="mixed_bfloat16")
    assert classifier.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_a_new_detector_sees_nothing_anywhere():
    bias = build_spec(tiny()).get_layer("class_predict").bias
    np.testing.assert_allclose(1 / (1 + np.exp(-bias.numpy())), 0.01, rtol=1e-4)


def test_a_clone_computes_the_same(detector):
    clone = keras.models.clone_model(detector)
    clone.set_weights(detector.get_weights())
    assert_same(run(clone, pixels()), run(detector, pixels()))
    assert spec_of(clone) == tiny()


def test_a_loaded_model_is_the_saved_one(detector, file):
    again = load(file)
    assert [layer.name for layer in again.layers] == [layer.name for layer in detector.layers]
    for ours, theirs in zip(again.get_weights(), detector.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same(run(again, pixels()), run(detector, pixels()))
    assert spec_of(again) == tiny()


def test_a_run_folder_loads_its_model(file):
    assert spec_of(load(file.parent)) == tiny()


@pytest.mark.slow
def test_a_saved_model_is_built_with_its_weights(detector, file):
    """The trap: only the definition was taken, and the weights were random."""
    file.with_name("model.toml").write_text(spec_of(detector).to_toml())
    for source in (file, file.parent):
        model = effkeras.build(source, input_shape=(96, 96))
        for ours, theirs in zip(model.get_weights(), detector.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_fresh_process_loads_the_model(detector, file):
    np.save(file.parent / "pixels.npy", pixels())
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", FRESH, file.parent], check=True, env={**os.environ, "PYTHONPATH": path}
    )
    wanted = run(detector, pixels())
    with np.load(file.parent / "outputs.npz") as outputs:
        assert_same({name: outputs[name] for name in OUTPUTS}, wanted)
        assert_same({name: outputs[f"bare_{name}"] for name in OUTPUTS}, wanted)


def test_a_model_of_others_carries_no_definition():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="theirs")
    with pytest.raises(EffkerasError, match=r"'theirs' carries no definition"):
        spec_of(model)


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "none.keras", tmp_path, str(tmp_path)):
        with pytest.raises(EffkerasError, match="there is no model"):
            load(path)


@pytest.mark.parametrize("keep", [0, 0.3, 0.9])
def test_a_truncated_file_is_refused(keep, file, tmp_path):
    content = file.read_bytes()
    path = tmp_path / "cut.keras"
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(EffkerasError, match=r"cut\.keras is corrupt"):
        load(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.txt"
    path.write_text("hello")
    with pytest.raises(EffkerasError, match="not a Keras 3 model"):
        load(path)


def test_a_failed_save_keeps_the_old_file(classifier, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_text("old")

    def fail(self, file):
        Path(file).write_text("half")
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(type(classifier), "save", fail)
    with pytest.raises(RuntimeError, match="disk on fire"):
        save(classifier, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def targets_for(classes: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(2)
    count = len(anchor_boxes(tiny()))
    labels = draw.integers(-2, classes, (4, count))
    positive = (labels >= 0)[..., None]
    deltas = np.where(positive, draw.normal(0, 0.3, (4, count, 4)), 0)
    boxes = np.concatenate([deltas, positive], axis=-1).astype(np.float32)
    return {"class_logits": labels.astype(np.int32), "box_deltas": boxes}


def loss_by_hand(targets: dict, outputs: dict) -> float:
    labels, logits = targets["class_logits"], np.asarray(outputs["class_logits"], np.float64)
    truth = labels[..., None] == np.arange(logits.shape[-1])
    chance = 1 / (1 + np.exp(-np.where(truth, logits, -logits)))
    focal = np.where(truth, 0.25, 0.75) * (1 - chance) ** 1.5 * -np.log(chance)
    error = np.abs(targets["box_deltas"][..., :4] - np.asarray(outputs["box_deltas"], np.float64))
    huber = np.where(error < 0.1, error**2 / 2, 0.1 * error - 0.005)
    positives = (labels >= 0).sum() + 1
    return focal[labels != -2].sum() / positives + 50 * huber[labels >= 0].sum() / (4 * positives)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 1])
def test_a_detector_trains_with_plain_keras(classes):
    import tensorflow as tf

    model = build_spec(tiny(classes))
    # Tracing takes longer than the rest: once is enough.
    model.compile(keras.optimizers.SGD(1e-3), loss=detector_losses(), run_eagerly=classes == 1)
    images, targets = pixels(count=4), targets_for(classes)

    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = model.compute_loss(y=targets, y_pred=outputs)
    by_hand = loss_by_hand(targets, outputs)
    assert float(loss) == pytest.approx(by_hand, rel=1e-3)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient).all(), weight.path
        # A bias before batch normalisation changes nothing.
        assert weight.name == "bias" or np.abs(gradient).max() > 0, weight.path

    before = model.get_weights()
    history = model.fit(images, targets, batch_size=4, epochs=2, verbose=0).history
    assert history["loss"][0] == pytest.approx(by_hand, rel=1e-3)
    assert np.isfinite(history["loss"][1])
    moved = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
    assert np.mean(moved) > 0.9


def test_channels_set_the_width_of_a_layer():
    spec = tiny().replace(channels={"block0_project_conv": 13, "block2_se_reduce": 3, "stem_conv": 11})
    model = build_spec(spec)
    for name, width in spec.channels.items():
        assert model.get_layer(name).output.shape[-1] == width
    assert model.get_layer("block1_expand_conv").kernel.shape[2] == 13
    assert spec_of(model) == spec


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"blokc0_project_conv": 8}, r"names 'blokc0_project_conv'; did you mean 'block0_project_conv'\?"),
        ({"block0_depthwise_conv": 8}, "cannot change 'block0_depthwise_conv'; its width follows others"),
        ({"logits": 8}, "cannot change 'logits'"),
        ({"block1_project_conv": 20}, "block2_add cannot add maps of 20 and 24 channels"),
    ],
)
def test_impossible_channels_are_refused(channels, message):
    with pytest.raises(EffkerasError, match=message):
        build_spec(effkeras.spec("b0").replace(channels=channels))


@pytest.mark.parametrize("shape", [(16, 64), (64,), (64, 64, 1), (64, 64, 3, 1), (64.0, 64)])
def test_impossible_input_shapes_are_refused(shape):
    with pytest.raises(EffkerasError, match="input"):
        effkeras.build("b0", input_shape=shape)


IMPOSSIBLE = {
    "no width": ("b0", {"width": 0}),
    "negative width": ("b0", {"width": -1}),
    "width NaN": ("b0", {"width": float("nan")}),
    "width infinite": ("b0", {"width": float("inf")}),
    "width true": ("b0", {"width": True}),
    "width a text": ("b0", {"width": "1"}),
    "width absurd": ("b0", {"width": 1e6}),
    "phi NaN": ("b0", {"phi": float("nan")}),
    "phi infinite": ("d0", {"phi": float("-inf")}),
    "phi true": ("b0", {"phi": True}),
    "phi absurd": ("b0", {"phi": 29}),
    "more weights than any memory": ("b0", {"phi": 12, "width": 90}),
    "pyramid without cells": ("d0", {"phi": -4}),
    "8 pixels for five strides": ("b0", {"input_shape": (8, 8)}),
    "8 pixels high": ("d0", {"input_shape": (8, 512, 3)}),
    "absurd pixels": ("b0", {"input_shape": (10**7, 10**7)}),
    "open size": ("b0", {"input_shape": (None, None, 3)}),
    "one number of pixels": ("b0", {"input_shape": 224}),
    "fraction of a class": ("b0", {"classes": 2.5}),
    "class true": ("b0", {"classes": True}),
    "no class": ("b0", {"classes": []}),
    "absurd classes": ("b0", {"classes": 10**13}),
    "more than absurd": ("b0", {"phi": 10**400}),
    "nothing to scale": ("squeezenet-1.1", {"phi": 1}),
    "published weights, scaled": ("efficientnet-digits", {"width": 2, "weights": "digits"}),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_scales_are_one_line(case):
    name, options = IMPOSSIBLE[case]
    with pytest.raises(EffkerasError) as caught:
        effkeras.build(name, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_model_is_scaled_when_built():
    model = effkeras.build("b0", phi=-2.5, width=0.5, classes=np.int64(3), input_shape=np.array([64, 96]))
    spec = spec_of(model)
    assert (spec.network.width, spec.network.depth) == (0.5 * 1.1**-2.5, 1.2**-2.5)
    assert (spec.input.size, spec.classes) == ((64, 96), 3)
    assert count(spec).total == model.count_params()
    assert model(pixels(64, 96)).shape == (2, 3)
    assert effkeras.build("b0", phi=-2.5, width=0.25).input_shape == (None, 160, 160, 3)  # 224 * 0.705


def test_a_network_without_the_levels_of_a_pyramid_is_refused():
    network = dataclasses.replace(tiny().network, blocks=tiny().network.blocks[:1])
    with pytest.raises(EffkerasError, match="no map of stride 8"):
        build_spec(tiny().replace(network=network))


def test_any_name_can_be_built():
    spec = dataclasses.replace(effkeras.spec("efficientnet-digits"), name="_meine Zähler")
    model = build_spec(spec)
    assert model.predict(pixels(32, 32), verbose=0).shape == (2, 10)
    assert spec_of(model).name == "_meine Zähler"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads must be a list"),
        ({"heads": ["detect"]}, "only a detector has heads"),
        ({"weights": 3}, "weights must be a name or a path, not int"),
        ({"activation": "sigmoid"}, "activation must be 'softmax' or None"),
        ({"dtype": "int8"}, "dtype must be a Keras policy"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_one_line(options, message):
    model = "efficientdet-digits" if options == {"heads": 3} else "efficientnet-digits"
    with pytest.raises(EffkerasError, match=re.escape(message)):
        effkeras.build(model, **options)


def test_maps_that_vanish_are_told_before_keras_fails(tmp_path):
    stages = "[" + ", ".join(['["s4_e4"]'] * 6) + "]"
    file = tmp_path / "fire.toml"
    file.write_text(f'base = "squeezenet-1.1"\n[input]\nsize = [64, 64]\n[network]\nstages = {stages}\n')
    with pytest.raises(EffkerasError, match="too small for a window of 3"):
        effkeras.build(file)
