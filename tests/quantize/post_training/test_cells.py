"""Cell networks as artifacts: one XNNPACK partition in float, nothing left in float in int8."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.tiny import tiny_cells
from support.tiny_models import decibels, random_images, randomize

from effkeras.building.models import build_spec
from effkeras.litert.runner import LiteRTModel
from quantize.formats import find
from quantize.post_training.artifact import Quantized
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts, quantize_pixels

BASES = (
    pytest.param("nasnet-mobile", marks=pytest.mark.slow),
    pytest.param("pnasnet-mobile", marks=pytest.mark.nightly("zoo")),
)


@functools.cache
def network(base: str) -> keras.Model:
    model = build_spec(tiny_cells(base, (64, 64), survival=0.7), activation=None)
    randomize(model)
    return model


def artifact(base: str, recipe: str, io: str = "float32") -> Quantized:
    options = PtqOptions(find(recipe), io)
    return quantize_pixels(float_parts(network(base), options), options, random_images(8)[:, None])


@pytest.mark.parametrize("base", BASES)
def test_float_computes_the_same_in_one_partition(base):
    made = LiteRTModel.of_bytes(artifact(base, "float32").flatbuffer)
    wanted = outputs_of_model(network(base), random_images(4))
    assert decibels(wanted, made(random_images(4))["scores"]) > 100
    assert (made.delegated().share, made.delegated().partitions) == (1, 1)


@pytest.mark.parametrize("base", BASES)
def test_int8_leaves_nothing_in_float_and_stays_close(base):
    made = artifact(base, "int8", "int8")
    assert made.left_in_float == ()
    wanted = outputs_of_model(network(base), random_images(8))
    assert decibels(wanted, LiteRTModel.of_bytes(made.flatbuffer)(random_images(8))["scores"]) > 12
    assert np.ptp(wanted, axis=0).min() > 0
