"""Ranges of large activations come from a sample in which no channel is forgotten."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from effkeras.litert.convert import to_flatbuffer
from quantize.post_training.ranges import RangeRule, measure_ranges


def scaling(channels: int, loud: int) -> bytes:
    """A network whose activation `scaled` has one channel 10 times the others."""
    pixels = keras.Input((128, 128, channels))
    scale = np.ones(channels, np.float32)
    scale[loud] = 10
    scaled = keras.layers.DepthwiseConv2D(1, use_bias=False, name="scaled")
    last = keras.layers.MaxPooling2D(2, name="last")
    model = keras.Model(pixels, last(scaled(pixels)))
    scaled.set_weights([scale.reshape(1, 1, channels, 1)])
    return to_flatbuffer(model)


@pytest.mark.parametrize("loud", [0, 5, 15])
@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_a_loud_channel_is_in_the_range(method, loud):
    flatbuffer = scaling(16, loud)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 128, 128, 16)).astype(np.float32)
    ranges = measure_ranges(flatbuffer, [picture], RangeRule(method))
    (found,) = [one for name, one in ranges.items() if "scaled" in name]
    assert -10 <= found["min"][0] < -9.5
    assert 9.5 < found["max"][0] <= 10
