"""Weights bring the names of their classes: those in the file, or ImageNet's."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from support.checkpoint_writer import write_checkpoint
from support.tiny import tiny_classifier, tiny_detector

from effkeras import cli
from effkeras.building.models import build, build_spec
from effkeras.commands.import_weights import _named
from effkeras.data.classes import Classes
from effkeras.definitions import imagenet
from effkeras.definitions.changes import with_classes
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import load, save
from effkeras.weights.loading import open_weights
from effkeras.weights.tf_checkpoints import official_names

THOUSAND = tiny_classifier().replace(classes=1000, labels=())


def checkpoint(folder: Path, classes: int) -> tuple[Path, np.ndarray]:
    """A checkpoint with the authors' names, and the bias of its last layer."""
    spec = THOUSAND.replace(classes=classes)
    model, names = build_spec(spec), official_names(spec)
    bias = np.arange(classes, dtype=np.float32)
    model.get_layer("logits").bias.assign(bias)
    weights = [(layer.name, weight) for layer in model.layers for weight in layer.weights]
    stored = {names[layer, one.name]: one.numpy() for layer, one in weights if (layer, one.name) in names}
    return write_checkpoint(folder, stored), bias


def test_a_published_classifier_of_a_thousand_classes_gets_imagenets_names(tmp_path):
    prefix, bias = checkpoint(tmp_path, 1000)
    model = build(THOUSAND, weights=prefix)
    assert spec_of(model).labels == imagenet.class_names()
    assert spec_of(model).labels[0] == "tench"
    np.testing.assert_array_equal(model.get_layer("logits").bias, bias)
    assert spec_of(build(THOUSAND.replace(classes=999), weights=prefix)).labels == ()
    own = THOUSAND.replace(labels=tuple(f"class {number}" for number in range(1000)))
    assert spec_of(build(own, weights=prefix)).labels == own.labels


def test_the_background_of_a_thousand_and_one_classes_is_left_out(tmp_path, caplog):
    prefix, bias = checkpoint(tmp_path, 1001)
    with caplog.at_level(logging.WARNING, "effkeras"):
        model = build(THOUSAND, weights=prefix)
    np.testing.assert_array_equal(model.get_layer("logits").bias, bias[1:])
    assert spec_of(model).labels == imagenet.class_names()
    assert "has a class for the background, which is left out" in caplog.text
    whole = build(THOUSAND.replace(classes=1001), weights=prefix)
    np.testing.assert_array_equal(whole.get_layer("logits").bias, bias)
    assert spec_of(whole).labels[:2] == ("background", "tench")


def test_a_file_of_effkeras_keeps_its_names_or_has_none(tmp_path):
    own = with_classes(THOUSAND, [f"class {number}" for number in range(1000)])
    for spec in (own, THOUSAND):
        save(build_spec(spec), tmp_path / "own.keras")
        assert open_weights(THOUSAND, tmp_path / "own.keras").spec.labels == spec.labels
    build_spec(THOUSAND).save_weights(tmp_path / "own.weights.h5")
    assert open_weights(THOUSAND, tmp_path / "own.weights.h5").spec.labels == ()


def test_the_names_are_a_thousand_and_differ():
    names = imagenet.class_names()
    numbers = list(imagenet.names_by_number())
    assert len(set(names)) == len(numbers) == 1000
    assert numbers == sorted(numbers)
    assert imagenet.class_identity(" n02012849") == "crane (bird)"
    assert imagenet.class_identity("n00000000") == "n00000000"


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """A model of three classes, as a definition and a file."""
    folder = tmp_path_factory.mktemp("three")
    spec = with_classes(tiny_classifier(), ["a", "b", "c"])
    save(build_spec(spec), folder / "three.keras")
    (folder / "tiny.toml").write_text(tiny_classifier().to_toml())
    return folder


def run(folder: Path, out: Path, *words: object) -> int:
    given = ["import", folder / "three.keras", folder / "tiny.toml", "--out", out, *words]
    return cli.main([str(word) for word in given])


LABEL_MAP = "item { id: 1 name: 'cat' } item { id: 2 name: 'dog' } item { id: 3 name: 'emu' }"


@pytest.mark.parametrize(("name", "text"), [("l.txt", "cat\ndog\nemu\n"), ("l.pbtxt", LABEL_MAP)])
def test_labels_name_the_classes_of_an_imported_model(name, text, three, tmp_path, capsys):
    (tmp_path / name).write_text(text)
    assert run(three, tmp_path / "o.keras", "--labels", tmp_path / name) == 0
    assert "3: cat, dog, emu" in capsys.readouterr().out
    made, given = load(tmp_path / "o.keras"), load(three / "three.keras")
    assert spec_of(made).labels == ("cat", "dog", "emu")
    np.testing.assert_array_equal(made.get_layer("logits").kernel, given.get_layer("logits").kernel)


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("cat\ndog\n", [], "names 2 classes, and there are 3; name each, in the order of the weights (--c"),
        ("cat\ndog\n", ["--classes", 4], "names 2 classes, and there are 4"),
        ("cat\ncat\ndog\n", [], "two classes are named 'cat'"),
        ("\n", [], "is empty; write the name of a class on each line"),
    ],
)
def test_labels_that_do_not_fit_are_one_line(text, words, message, three, tmp_path, capsys):
    (tmp_path / "l.txt").write_text(text)
    assert run(three, tmp_path / "o.keras", "--labels", tmp_path / "l.txt", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o.keras").exists()


def test_labels_name_the_classes_of_a_new_predictor(three, tmp_path):
    (tmp_path / "l.txt").write_text("cat\ndog\n")
    words = ["--labels", tmp_path / "l.txt", "--classes", 2]
    assert run(three, tmp_path / "o.keras", *words) == 0
    assert spec_of(load(tmp_path / "o.keras")).labels == ("cat", "dog")


def test_a_label_map_brings_a_detectors_ids():
    names = Classes(("cat", "dog"), (3, 8))
    spec = _named(with_classes(tiny_detector(), 2), names, 2, Path("l.pbtxt"))
    assert (spec.labels, spec.category_ids) == (("cat", "dog"), (3, 8))
    with pytest.raises(EffkerasError, match="names 2 classes"):
        _named(spec, names, 3, Path("l.pbtxt"))
