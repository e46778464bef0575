"""Artifacts for measuring sizes and speeds: one conversion, random pixels."""

from __future__ import annotations

import numpy as np
from tiny_models import tiny_model

from effkeras.litert.flatbuffer import operators
from quantize.post_training.on_noise import artifacts_on_noise, noise


def test_pixels_are_whole_and_repeat():
    first, again = noise((4, 6, 3), 2), noise((4, 6, 3), 2)
    assert [one.shape for one in first] == [(1, 4, 6, 3)] * 2
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(first, again)
    assert set(np.unique(first)) <= set(range(256))


def test_every_recipe_has_its_artifact():
    made = artifacts_on_noise(tiny_model("efficientnet-lite0"), ("float32", "int8"))
    dtypes = {
        name: {op.outputs[0].dtype for op in operators(content) if op.name == "CONV_2D"}
        for name, content in made.items()
    }
    assert dtypes == {"float32": {"float32"}, "int8": {"int8"}}
