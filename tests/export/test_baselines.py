"""Compression and export run on networks of keras.applications as on our own."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from support.tiny_models import decibels, keras_outputs, random_images

import effkeras
from effkeras.litert.runner import LiteRTModel
from export.tflite import ExportOptions, export_tflite
from quantize.formats import find
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts, quantize_pixels

SIDE = 64  # that of tiny_models' images
# Against the Keras model, in int8, at random weights; long sums that nothing normalises are hard on int8.
LOWEST_DECIBELS = {"mobilenet": 28, "densenet121": 12, "resnet50v2": 5, "convnexttiny": 20, "vgg16": 26}
EVERY = [
    pytest.param(name, marks=pytest.mark.slow if name == "mobilenet" else pytest.mark.nightly("zoo"))
    for name in LOWEST_DECIBELS
]


@functools.cache
def logits(name: str) -> keras.Model:
    """At random weights, with statistics of batch normalisation that fit them."""
    keras.utils.set_random_seed(0)  # whatever was drawn before: VGG16's int8 lies between 25 and 33 dB
    model = effkeras.build(name, input_shape=(SIDE, SIDE), classes=10, activation=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
            layer.gamma.assign(0.3 * layer.gamma)  # as in trained networks, branches add little to a sum
    for _ in range(8):
        model(random_images(8, seed=3), training=True)
    return model


def artifact(name: str, recipe: str) -> tuple[LiteRTModel, object]:
    options = PtqOptions(find(recipe))
    made = quantize_pixels(float_parts(logits(name), options), options, random_images(8)[:, None])
    return LiteRTModel.of_bytes(made.flatbuffer), made


@pytest.mark.parametrize("name", EVERY)
def test_the_artifact_computes_what_the_model_computes(name):
    runner, _ = artifact(name, "float32")
    (wanted,), (got,) = (
        keras_outputs(logits(name), random_images(4)).values(),
        runner(random_images(4)).values(),
    )
    assert np.abs(got - wanted).max() < 1e-3 * wanted.std()
    assert runner.spec.name == name


@pytest.mark.parametrize("name", EVERY)
def test_int8_stays_close_and_says_what_it_left(name):
    runner, made = artifact(name, "int8")
    (wanted,), (got,) = (
        keras_outputs(logits(name), random_images(8)).values(),
        runner(random_images(8)).values(),
    )
    assert decibels(wanted, got) > LOWEST_DECIBELS[name]
    assert all(one.why for one in made.left_in_float)


@pytest.mark.slow
def test_a_zoo_name_is_exported(tmp_path):
    report = export_tflite("mobilenet", ExportOptions(recipe="dynamic", out=tmp_path / "m.tflite"))
    assert report.passed
    assert 4e6 < (tmp_path / "m.tflite").stat().st_size < 6e6  # a byte a weight
