"""Artifacts for measuring sizes and speeds: one conversion, random pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
from support.tiny_models import quantized, tiny_model, tiny_spec

from effkeras.building.models import build_spec
from effkeras.litert.flatbuffer import interface, operators
from export.benchmarks.random_models import artifacts_on_random_images, random_images

CLASSIFIER = "efficientnet-lite0"


def test_pixels_are_whole_and_repeat():
    first, again = random_images((4, 6, 3), 2), random_images((4, 6, 3), 2)
    assert [one.shape for one in first] == [(1, 4, 6, 3)] * 2
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(first, again)
    assert set(np.unique(first)) <= set(range(256))


def test_every_recipe_has_its_artifact():
    made = artifacts_on_random_images(tiny_model(CLASSIFIER), ("float32", "int8"))
    dtypes = {
        name: {op.outputs[0].dtype for op in operators(content) if op.name == "CONV_2D"}
        for name, content in made.items()
    }
    assert dtypes == {"float32": {"float32"}, "int8": {"int8"}}


def test_ranges_may_come_from_a_smaller_size_with_the_same_weights():
    """Its operators have the same names, and so all are quantized as if measured at the own size."""
    spec = tiny_spec(CLASSIFIER)
    large = build_spec(spec.replace(input=dataclasses.replace(spec.input, size=(96, 96))))
    large.set_weights(tiny_model(CLASSIFIER).get_weights())
    made = artifacts_on_random_images(large, ["int8"], smaller=tiny_model(CLASSIFIER))["int8"]
    assert interface(made).inputs[0].shape == (1, 96, 96, 3)
    wanted = [(op.name, op.arithmetic) for op in operators(quantized(CLASSIFIER, "int8").flatbuffer)]
    assert [(op.name, op.arithmetic) for op in operators(made)] == wanted
