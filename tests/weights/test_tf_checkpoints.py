"""TensorFlow checkpoints of both kinds load, and every weight has the name that the authors gave it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.checkpoint_writer import write_checkpoint
from support.goldens import official_weight
from support.official_variables import official_models, official_variables
from support.proofs import NAMES, proven

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_classes
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import weight_shapes
from effkeras.support.errors import EffkerasError
from effkeras.weights.loading import load_weights
from effkeras.weights.tf_checkpoints import EMA_SUFFIX, OBJECT_GRAPH, official_names


@functools.cache
def tiny() -> ModelSpec:
    spec = effkeras.spec("efficientdet-lite0")
    return with_classes(spec, 3).replace(
        name="tiny",
        input=dataclasses.replace(spec.input, size=(64, 64)),
        network=dataclasses.replace(spec.network, width=0.35, depth=0.3),
        fpn=dataclasses.replace(spec.fpn, channels=24, cells=1),
        head=dataclasses.replace(spec.head, repeats=1),
    )


@pytest.fixture(scope="module")
def shared() -> keras.Model:
    return build_spec(tiny())


@pytest.fixture
def model(shared) -> keras.Model:
    shared.set_weights([np.full(weight.shape, 9, np.float32) for weight in shared.weights])
    return shared


@pytest.fixture(scope="module")
def official(shared) -> dict[str, np.ndarray]:
    names = official_names(tiny())
    return {
        names[layer.name, weight.name]: official_weight(
            names[layer.name, weight.name], tuple(weight.shape), False
        )
        for layer in shared.layers
        for weight in layer.weights
    }


def tree(values: Mapping[str, np.ndarray]) -> tf.Module:
    """Modules whose attributes say nothing of the variables' names, as in a subclassed Keras model."""
    root = tf.Module()
    for index, (name, value) in enumerate(values.items()):
        if index % 20 == 0:
            branch = tf.Module()
            branch.leaves = []
            setattr(root, f"part{index}", branch)
        branch.leaves.append(tf.Variable(value, name=name))
    return root


def write(folder: Path, root: tf.Module, **more: object) -> Path:
    """`save` also counts, in a variable of its own."""
    return Path(tf.train.Checkpoint(model=root, **more).save(str(folder / "ckpt")))


def assert_loaded(model: keras.Model, wanted: Mapping[str, np.ndarray]) -> None:
    names = official_names(tiny())
    for layer in model.layers:
        for weight in layer.weights:
            np.testing.assert_array_equal(weight.numpy(), wanted[names[layer.name, weight.name]])


def test_variables_are_found_by_their_full_names(model, official, tmp_path):
    path = write(tmp_path, tree(official))
    keys = [key for key, _ in tf.train.list_variables(str(path))]
    assert OBJECT_GRAPH in keys
    assert not any("class_net" in key for key in keys)
    report = load_weights(model, path)
    assert report.loaded == len(model.weights)
    assert "object-based" in report.kind
    assert_loaded(model, official)


def test_slots_and_counters_are_left_out_and_averages_preferred(model, official, tmp_path):
    root = tree(official)
    first = root.part0.leaves[0]
    name = first.name.removesuffix(":0")
    optimizer = Slots(root)
    path = write(tmp_path, root, optimizer=optimizer)
    with_slots = [key for key, _ in tf.train.list_variables(str(path)) if ".OPTIMIZER_SLOT" in key]
    assert len(with_slots) == 2
    load_weights(model, path)
    assert_loaded(model, official | {name: official[name] + 1})


class Slots(tf.Module):
    """What an optimizer hangs on the first variable: a momentum, a moving average, and its own step."""

    def __init__(self, root: tf.Module):
        super().__init__()
        self.iterations = tf.Variable(3, dtype=tf.int64, name="SGD/iter")
        first = root.part0.leaves[0]
        self._first = first
        self._slots = {
            "momentum": tf.Variable(first * 0, name="momentum"),
            "average": tf.Variable(first + 1, name="average"),
        }

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        return {name: child for name, child in children.items() if name == "iterations"}

    def get_slot_names(self):
        return sorted(self._slots)

    def get_slot(self, variable, name):
        return self._slots[name] if variable is self._first else None


def test_another_models_checkpoint_is_refused(model, official, tmp_path):
    values = {name.replace("class_net", "mask_net"): value for name, value in official.items()}
    with pytest.raises(EffkerasError, match=r"missing: class_net/class-0.*extra: mask_net"):
        load_weights(model, write(tmp_path, tree(values)))
    assert all((weight == 9).all() for weight in model.get_weights())


def test_a_folder_moved_from_another_machine(model, official, tmp_path):
    prefix = write_checkpoint(tmp_path, official)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/home/else/runs/model"\n')
    load_weights(model, prefix.parent)
    assert_loaded(model, official)


def test_a_folder_with_one_checkpoint_needs_no_file_that_names_it(model, official, tmp_path):
    prefix = write_checkpoint(tmp_path, official)
    (tmp_path / "checkpoint").unlink()
    load_weights(model, tmp_path)
    assert_loaded(model, official)
    for file in tmp_path.glob("model.*"):
        (tmp_path / file.name.replace("model", "other")).write_bytes(file.read_bytes())
    with pytest.raises(EffkerasError, match="holds no checkpoint"):
        load_weights(model, tmp_path)
    load_weights(model, f"{prefix}.data-00000-of-00001")


def test_the_networks_name_may_be_another(model, official, tmp_path):
    scope = tiny().backbone + "/"
    renamed = {name.replace(scope, "mine/"): value for name, value in official.items()}
    load_weights(model, write_checkpoint(tmp_path, {f"{n}{EMA_SUFFIX}": v for n, v in renamed.items()}))
    assert_loaded(model, official)


@pytest.mark.parametrize("model", proven(official_models(), NAMES))
def test_names_and_shapes_are_those_of_the_authors(model):
    spec = effkeras.spec(model)
    names = official_names(spec)
    ours = {names[weight]: shape for weight, shape in weight_shapes(spec).items()}
    assert ours == official_variables(model)


def test_a_network_without_such_checkpoints_says_so():
    with pytest.raises(EffkerasError, match=r"squeezenet-1\.1: no TensorFlow checkpoint"):
        official_names(effkeras.spec("squeezenet-1.1"))
