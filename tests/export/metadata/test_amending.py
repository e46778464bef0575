"""What is changed in a file's metadata, its definition says too, and all else stays."""

from __future__ import annotations

import dataclasses

import pytest
from support.small_tflite import small_tflite
from support.tiny_models import quantized, tiny_spec

from effkeras import EffkerasError
from effkeras.definitions.changes import with_heads
from effkeras.litert.flatbuffer import operators
from effkeras.litert.rewriting import attach as attach_entry
from effkeras.litert.rewriting import attached, name_interface
from effkeras.litert.runner import DEFINITION, RECIPE, definition_of
from export import metadata
from export.metadata import Normalization, ScoreCalibration, of_classifier
from export.metadata.attaching import with_calibration, with_labels
from export.metadata.builders import CALIBRATION, Extras

NAMES = tuple(f"name {index}" for index in range(10))
CLASSIFIER = "efficientnet-lite0"


def test_the_definition_names_the_classes_as_the_metadata_does():
    made = with_labels(small_tflite(), NAMES)
    assert definition_of(made) == definition_of(small_tflite()).replace(labels=NAMES)
    assert metadata.read(made).files["labels.txt"].decode().splitlines() == list(NAMES)
    assert operators(made) == operators(small_tflite())
    assert attached(made, RECIPE) == attached(small_tflite(), RECIPE)


def test_what_else_the_metadata_says_stays():
    plain = quantized(CLASSIFIER, "float32").flatbuffer
    extras = Extras(Normalization((1.0,), (2.0,)), (ScoreCalibration("LOG", 0.5), b"1,2,3\n\n1,2,3,4"))
    old = of_classifier(definition_of(plain), ("a", "b", "c"), plain, extras)
    old = dataclasses.replace(old, author="somebody", version="7", license="MIT")
    made = metadata.read(with_labels(metadata.attach(plain, old), ("d", "e", "f")))
    assert made == dataclasses.replace(old, files={**old.files, "labels.txt": b"d\ne\nf\n"})


def test_a_file_without_metadata_gets_it():
    plain = quantized(CLASSIFIER, "float32").flatbuffer
    made = with_labels(plain, ("a", "b", "c"))
    assert metadata.read(made).files["labels.txt"] == b"a\nb\nc\n"
    assert definition_of(made).labels == ("a", "b", "c")


def test_a_calibration_takes_the_place_of_an_older_one_and_all_else_stays():
    first = with_calibration(with_labels(small_tflite(), NAMES), ScoreCalibration("LOG"), b"1,2,3\n" * 10)
    made = with_calibration(first, ScoreCalibration("IDENTITY", 0.25), b"1,2,3,0.5\n" * 10)
    assert definition_of(made).labels == NAMES
    found, old = metadata.read(made), metadata.read(with_labels(small_tflite(), NAMES))
    (note,) = found.outputs
    assert note.units == (ScoreCalibration("IDENTITY", 0.25),)
    assert found.files == {**old.files, CALIBRATION: b"\n".join([b"1,2,3,0.5"] * 10)}
    plain = dataclasses.replace(note, units=(), files=note.files[:1])
    assert dataclasses.replace(found, outputs=(plain,), files=old.files) == old


def test_masks_have_no_scores():
    spec = with_heads(tiny_spec("efficientdet-lite0"), ("segment",))
    plain = name_interface(quantized(CLASSIFIER, "float32").flatbuffer, ["image"], ["mask_logits"])
    plain = attach_entry(plain, DEFINITION, spec.to_toml().encode())
    with pytest.raises(EffkerasError, match="has no scores of classes"):
        with_calibration(plain, ScoreCalibration(), b"1,2,3\n" * 3)


def test_as_many_labels_as_classes():
    with pytest.raises(EffkerasError, match="2 labels for 10 classes"):
        with_labels(small_tflite(), ("a", "b"))
