"""Ranges of large activations come from a sample in which no channel is forgotten."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from support.tiny_models import quantized

from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.flatbuffer import layer_of, operators
from quantize.formats import find
from quantize.post_training.options import PtqOptions
from quantize.post_training.ranges import Histogram, RangeRule, measure_ranges
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


@pytest.mark.parametrize("width", [1e-30, 1e-3, 1, 4e3, 1e6, 1e30])
@pytest.mark.parametrize("middle", [0, -1, 1, 300, 1e6])
def test_every_value_is_in_the_bin_that_holds_it(width, middle):
    """Also the largest that are below an edge, and those next to 0."""
    draw, histogram = np.random.default_rng(0), Histogram()
    whole = np.array([], np.float32)
    for size in (1, 7, 1000):
        values = ((draw.normal(size=size) + middle) * width).astype(np.float32)
        wide = histogram.width or 1.0  # 0 before the first values
        edges = (np.floor(values[:8] / wide) * wide).astype(np.float32)
        near = [np.nextafter(edges, np.float32(way)) for way in (-np.inf, np.inf)]
        values = np.concatenate([values, edges, *near, np.float32([0, -0.0, 1e-45, -1e-45])])
        whole = np.concatenate([whole, values])
        histogram.add(values[None])
    bins = np.floor(whole * np.float64(1 / histogram.width))
    kinds, counts = np.unique(bins, return_counts=True)
    found = histogram.counts > 0
    np.testing.assert_array_equal(histogram.centers[found] / histogram.width - 0.5, kinds)
    np.testing.assert_array_equal(histogram.counts[found], counts)
    assert (histogram.zeros, histogram.low, histogram.high) == (np.sum(whole == 0), whole.min(), whole.max())


@pytest.mark.parametrize("low", [-3, 0])
def test_the_least_squared_error_is_that_of_all_candidates(low):
    """As `mse_range` says, by one candidate after another."""
    values = np.maximum(np.random.default_rng(0).normal(size=20_000), low).astype(np.float32)
    histogram, errors = Histogram(), {}
    histogram.add(values)
    centers, counts = histogram.centers, histogram.counts
    lows, highs = (np.unique(end * np.linspace(0, 1, 65)) for end in (histogram.low, histogram.high))
    for bottom, top in itertools.product(lows, highs):
        inside = counts[(centers >= bottom) & (centers <= top)].sum() - histogram.zeros
        beyond = np.maximum(np.maximum(bottom - centers, centers - top), 0)
        errors[bottom, top] = (beyond**2 * counts).sum() + max(inside, 0) * ((top - bottom) / 15) ** 2 / 12
    assert RangeRule("mse", steps=15).of(histogram) == min(errors, key=errors.get)


@pytest.mark.parametrize("loud", [0, 5, 15])
@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_a_loud_channel_is_in_the_range(method, loud):
    flatbuffer = scaling(16, loud)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 128, 128, 16)).astype(np.float32)
    ranges = measure_ranges(flatbuffer, [image], RangeRule(method))
    (found,) = [one for name, one in ranges.items() if "scaled" in name]
    assert -10 <= found["min"][0] < -9.5
    assert 9.5 < found["max"][0] <= 10


def joined(outputs: bool) -> bytes:
    """Two convolutions, a small and a large one, joined; of a third one something else reads too."""
    pixels = keras.Input((8, 8, 3))
    branches = []
    for gain, name in ((0.1, "small"), (10.0, "large"), (1.0, "shared")):
        scaled = keras.layers.DepthwiseConv2D(1, use_bias=False, name=name)
        branches.append(keras.layers.Reshape((64, 3))(scaled(pixels)))
        scaled.set_weights([np.full((1, 1, 3, 1), gain, np.float32)])
    together = keras.layers.Concatenate(axis=1, name="together")(branches)
    pooled = keras.layers.GlobalAveragePooling1D(name="pooled")(branches[2])
    return to_flatbuffer(keras.Model(pixels, [together, pooled, *branches[:outputs]]))


@pytest.mark.parametrize("outputs", [False, True])
def test_what_is_joined_is_made_in_the_range_of_all(outputs):
    """It is rounded once then; what something else reads, or is given to the caller, keeps its own range."""
    flatbuffer = joined(outputs)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    found = measure_ranges(flatbuffer, [image])
    most = {layer_of(name): float(one["max"][0]) for name, one in found.items()}
    whole = 10 * image.max()
    assert most["large"] == pytest.approx(whole)
    assert most["small"] == pytest.approx(0.1 * image.max() if outputs else whole)
    assert most["shared"] == pytest.approx(image.max())
    assert sum(one == pytest.approx(whole) for one in most.values()) == (3 if outputs else 5)


@pytest.mark.parametrize("name", ["efficientdet-lite0", "efficientdet-d0"])
def test_no_head_is_rounded_twice(name):
    graph = operators(quantized(name, "int8").flatbuffer)
    rounded = {op.outputs[0].index for op in graph if op.name == "QUANTIZE"}
    (logits,) = (op for op in graph if op.name == "CONCATENATION" and "class_logits" in op.outputs[0].name)
    assert not rounded & {tensor.index for tensor in logits.inputs}
