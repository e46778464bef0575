"""Weights load whole and exactly, or are refused by name."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path

import keras
import numpy as np
import pytest
from support.checkpoint_writer import write_checkpoint
from support.goldens import official_weight, read_golden

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions import zoo
from effkeras.definitions.changes import with_classes
from effkeras.definitions.definition import ModelSpec, WeightsSpec
from effkeras.graph.counting import layer_channels
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import save
from effkeras.weights.loading import load_weights
from effkeras.weights.tf_checkpoints import EMA_SUFFIX, official_names

HAVE_BIAS = ("/se/", "resample_", "op_after_combine", "class_net/", "box_net/", "/dense/")
STEM = "efficientnet-b0/stem/conv2d/kernel"


@functools.cache
def tiny() -> ModelSpec:
    spec = effkeras.spec("d0")
    return with_classes(spec, 3).replace(
        name="tiny",
        input=dataclasses.replace(spec.input, size=(64, 64)),
        network=dataclasses.replace(spec.network, width=0.35, depth=0.3),
        fpn=dataclasses.replace(spec.fpn, channels=24, cells=1),
        head=dataclasses.replace(spec.head, repeats=1),
        weights={"far": WeightsSpec(url="https://example.org/far.tar.gz")},
    )


@pytest.fixture(scope="module")
def shared() -> keras.Model:
    return build_spec(tiny())


@pytest.fixture
def model(shared) -> keras.Model:
    shared.set_weights([np.full(weight.shape, 9, np.float32) for weight in shared.weights])
    return shared


@pytest.fixture(scope="module")
def other_classes() -> keras.Model:
    return build_spec(with_classes(tiny(), 5))


@pytest.fixture(scope="module")
def official(shared) -> dict[str, np.ndarray]:
    return {
        name: official_weight(name, tuple(variable.shape), False)
        for name, variable in named_variables(shared).items()
    }


@pytest.fixture(scope="module")
def prefix(official, tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("official"), official)


@pytest.fixture(scope="module")
def keras_file(official, shared, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "model.keras"
    for name, variable in named_variables(shared).items():
        variable.assign(official[name])
    save(shared, path)
    return path


def named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    names = official_names(tiny())
    return {names[layer.name, weight.name]: weight for layer in model.layers for weight in layer.weights}


def assert_loaded(model: keras.Model, wanted: dict[str, np.ndarray]) -> None:
    variables = named_variables(model)
    assert len(variables) == len(model.weights)
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable.numpy(), wanted[name], err_msg=name)


def assert_untouched(model: keras.Model) -> None:
    assert all((weight == 9).all() for weight in model.get_weights())


def test_every_variable_gets_the_stored_value(model, prefix, official):
    report = load_weights(model, prefix)
    assert_loaded(model, official)
    assert report.loaded == len(model.weights)
    assert report.skipped == ()


@pytest.mark.parametrize("suffix", ["folder", "prefix", "index"])
def test_a_checkpoint_may_be_given_by(suffix, model, prefix, official):
    paths = {"folder": prefix.parent, "prefix": str(prefix), "index": f"{prefix}.index"}
    load_weights(model, paths[suffix])
    assert_loaded(model, official)


def test_averages_are_preferred_where_they_exist(model, official, tmp_path):
    averages = {name + EMA_SUFFIX: value + 1 for name, value in official.items() if "stem" in name}
    load_weights(model, write_checkpoint(tmp_path, official | averages))
    assert_loaded(model, {name: value + ("stem" in name) for name, value in official.items()})


def test_a_checkpoint_of_averages_alone_is_enough(model, official, tmp_path):
    load_weights(model, write_checkpoint(tmp_path, {n + EMA_SUFFIX: v for n, v in official.items()}))
    assert_loaded(model, official)


@pytest.mark.parametrize("slot", ["Momentum", "RMSProp", "RMSProp_1", "Adam", "Adam_1"])
def test_what_the_optimizer_stored_is_ignored(slot, model, official, tmp_path):
    slots = {f"{STEM}/{slot}": official[STEM] + 1, "global_step": np.int64(7)}
    load_weights(model, write_checkpoint(tmp_path, official | slots))
    assert_loaded(model, official)


def test_a_slot_of_an_unknown_variable_is_extra(model, official, tmp_path):
    path = write_checkpoint(tmp_path, official | {"else/kernel/Momentum": np.ones(3, np.float32)})
    with pytest.raises(EffkerasError, match="1 extra: else/kernel/Momentum"):
        load_weights(model, path)
    assert_untouched(model)


def test_missing_extra_and_misshaped_variables_are_named(model, official, tmp_path):
    stored = {name: value for name, value in official.items() if name != STEM}
    stored["fpn_cells/cell_7/fnode0/WSM"] = np.float32(1)
    stored["box_net/box-predict/bias"] = np.zeros(12, np.float32)
    with pytest.raises(EffkerasError) as caught:
        load_weights(model, write_checkpoint(tmp_path, stored))
    text = str(caught.value)
    assert f"1 missing: {STEM}" in text
    assert "1 extra: fpn_cells/cell_7/fnode0/WSM" in text
    assert "1 of another shape: box_net/box-predict/bias (12,) where the model has (36,)" in text
    assert_untouched(model)


def test_long_lists_of_names_are_cut(model, official, tmp_path):
    stored = {name: value for name, value in official.items() if not name.startswith("class_net")}
    missing = len(official) - len(stored)
    with pytest.raises(EffkerasError, match=rf"{missing} missing: class_net.*, and {missing - 8} more$"):
        load_weights(model, write_checkpoint(tmp_path, stored))


@pytest.mark.parametrize("kind", ["prefix", "keras_file"])
def test_other_classes_keep_their_predictor(kind, other_classes, official, request, caplog):
    fresh = {name: variable.numpy() for name, variable in named_variables(other_classes).items()}
    path = request.getfixturevalue(kind)
    with caplog.at_level(logging.WARNING, "effkeras"):
        report = load_weights(other_classes, path)
    # The depthwise kernel does not depend on the number of classes.
    kept = ["class_net/class-predict/pointwise_kernel", "class_net/class-predict/bias"]
    assert_loaded(other_classes, official | {name: fresh[name] for name in kept})
    assert len(report.skipped) == 2
    assert report.loaded == len(other_classes.weights) - 2
    for name in report.skipped:
        assert "predict" in name
        assert name in caplog.text


def test_same_classes_give_no_warning(model, prefix, caplog):
    load_weights(model, prefix)
    assert not caplog.records


@pytest.mark.parametrize("given", ["file", "run folder"])
def test_weights_of_a_keras_model(given, model, keras_file, official):
    load_weights(model, keras_file if given == "file" else keras_file.parent)
    assert_loaded(model, official)


def test_a_keras_model_of_other_layers_is_refused(keras_file):
    digits = effkeras.build("efficientnet-digits")
    with pytest.raises(EffkerasError, match=r"7 missing: head_conv/kernel.* of another shape: .* extra: "):
        load_weights(digits, keras_file)


def test_weights_h5(model, keras_file, official, tmp_path):
    effkeras.load(keras_file).save_weights(tmp_path / "some.weights.h5")
    load_weights(model, tmp_path / "some.weights.h5")
    assert_loaded(model, official)


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_corrupt_keras_file_is_refused(name, model, tmp_path):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(EffkerasError, match=name):
        load_weights(model, tmp_path / name)


@pytest.mark.parametrize("part", [".data-00000-of-00001", ".index"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99, None])
def test_a_damaged_checkpoint_is_refused(part, keep, model, official, tmp_path):
    prefix = write_checkpoint(tmp_path, official)
    file = Path(f"{prefix}{part}")
    content = file.read_bytes()
    file.unlink()
    if keep is not None:
        file.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(EffkerasError):
        load_weights(model, prefix)
    assert_untouched(model)


def test_a_flipped_byte_is_noticed(model, official, tmp_path):
    prefix = write_checkpoint(tmp_path, official)
    file = Path(f"{prefix}.data-00000-of-00001")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with pytest.raises(EffkerasError, match="not a readable TensorFlow checkpoint"):
        load_weights(model, prefix)


def test_a_folder_without_checkpoint_is_refused(model, tmp_path):
    with pytest.raises(EffkerasError, match="holds no checkpoint"):
        load_weights(model, tmp_path)


def test_an_unknown_name_lists_the_known_ones(model):
    with pytest.raises(EffkerasError, match=r"no weights 'imagenet'.*tiny knows far"):
        load_weights(model, "imagenet")


def test_weights_elsewhere_say_where(model):
    with pytest.raises(EffkerasError, match=r"put https://example\.org/far\.tar\.gz at .*far\.tar\.gz$"):
        load_weights(model, "far")


@pytest.mark.parametrize("file", ["near.keras", "../far.keras"])
def test_named_weights_lie_beside_the_definition(file, keras_file, official, tmp_path, monkeypatch):
    folder = tmp_path / "efficientdet"
    folder.mkdir()
    spec = tiny().replace(name="efficientdet-mine", weights={"mine": WeightsSpec(file=file)})
    (folder / "mine.toml").write_text(dataclasses.replace(spec, backbone="").to_toml())
    (folder / file).write_bytes(keras_file.read_bytes())
    monkeypatch.setattr(zoo, "zoo_folder", lambda: tmp_path)
    if file.startswith(".."):
        with pytest.raises(EffkerasError, match="leads out of"):
            effkeras.build("mine", weights="mine")
    else:
        assert_loaded(effkeras.build("mine", weights="mine"), official)


@pytest.mark.parametrize(
    "file",
    [
        "efficientdet-d0_128.npz",
        "efficientdet-lite0_160.npz",
        "efficientnet-b0_96.npz",
        "efficientnet-lite0_96.npz",
    ],
)
def test_names_are_those_of_the_official_variable_lists(file):
    meta = read_golden(file).meta
    spec = effkeras.spec(meta["model"])
    layers = layer_channels(spec)
    names = [
        name
        for (layer, weight), name in official_names(spec).items()
        if layer in layers and (weight != "bias" or any(part in name for part in HAVE_BIAS))
    ]
    assert sorted(names) == sorted(name for name, _ in meta["variables"])
