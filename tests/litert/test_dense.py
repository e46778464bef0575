from __future__ import annotations

import numpy as np
import pytest
from tiny_models import pictures, quantized

from effkeras.litert.dense import dense_as_convolutions
from effkeras.litert.flatbuffer import operators
from effkeras.litert.runner import LiteRTModel

NAME = "efficientnet-lite0"


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_results_are_the_same_bit_for_bit(io, xnnpack):
    plain = LiteRTModel.of_bytes(quantized(NAME, "int8", io).flatbuffer, xnnpack=xnnpack)
    own = LiteRTModel.of_bytes(dense_as_convolutions(plain.flatbuffer), xnnpack=xnnpack)
    names = [op.name for op in operators(own.flatbuffer)]
    assert "FULLY_CONNECTED" not in names
    assert len(names) == len(operators(plain.flatbuffer)) + 2
    for picture in pictures(6):
        wanted, got = plain.raw(picture), own.raw(picture)
        np.testing.assert_array_equal(got["probabilities"], wanted["probabilities"])


@pytest.mark.parametrize("recipe", ["float32", "fp16"])
def test_one_scale_or_none_stays_dense(recipe):
    plain = quantized(NAME, recipe).flatbuffer
    kept = dense_as_convolutions(plain)
    assert [op.name for op in operators(kept)] == [op.name for op in operators(plain)]
