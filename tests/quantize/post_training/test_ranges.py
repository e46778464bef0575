"""Ranges of large activations come from a sample in which no channel is forgotten."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from effkeras.litert.convert import to_flatbuffer
from quantize.post_training.histograms import Histogram
from quantize.post_training.quantization import PtqOptions
from quantize.post_training.ranges import RangeRule, measure_ranges
from quantize.recipes import find
from quantize.specs import PtqSpec


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


def test_more_steps_leave_less_out():
    """Of few outliers 8 bits rather lose the tips than resolution; 16 bits have steps for both."""
    values = np.random.default_rng(0).normal(size=(1, 512, 512, 4)).astype(np.float32)
    values[0, 0, 0, 0] = 12
    histogram = Histogram()
    histogram.add(values)
    few, many = (
        PtqOptions(find(recipe), spec=PtqSpec(ranges="mse")).range_rule().of(histogram)
        for recipe in ("int8", "w8a16")
    )
    assert few[1] < 8
    assert many[1] == pytest.approx(12)


@pytest.mark.parametrize("loud", [0, 5, 15])
@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_a_loud_channel_is_in_the_range(method, loud):
    flatbuffer = scaling(16, loud)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 128, 128, 16)).astype(np.float32)
    ranges = measure_ranges(flatbuffer, [picture], RangeRule(method))
    (found,) = [one for name, one in ranges.items() if "scaled" in name]
    assert -10 <= found["min"][0] < -9.5
    assert 9.5 < found["max"][0] <= 10
