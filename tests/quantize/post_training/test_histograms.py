from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.in_bits import in_8_bits

from quantize.post_training.ranges import BINS, Histogram, mse_range, percentile_range

SOME = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, np.float32))
    return histogram


@settings(max_examples=60, deadline=None)
@given(SOME, SOME)
def test_nothing_is_lost_and_the_order_does_not_matter(first, second):
    one, other = histogram_of(first, second), histogram_of(second, first)
    assert one.counts.sum() == len(first) + len(second)
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.centers, other.centers)
    assert len(one.counts) <= BINS
    assert (one.low, one.high) == (np.float32(min(first + second)), np.float32(max(first + second)))


@settings(max_examples=60, deadline=None)
@given(SOME, SOME)
def test_growing_is_the_same_as_counting_at_once(first, second):
    grown, once = histogram_of(first, second), histogram_of([*first, *second])
    np.testing.assert_array_equal(grown.counts, once.counts)
    assert grown.zeros == once.zeros == [*first, *second].count(0)


@settings(max_examples=60, deadline=None)
@given(SOME, st.floats(0.05, 1))
def test_a_percentile_holds_its_share_and_zero(values, share):
    low, high = percentile_range(histogram_of(values), share)
    array = np.asarray(values, np.float32)
    width = np.ptp(array) / BINS * 2 + 1e-30  # a bin at either end
    inside = (array >= low - width) & (array <= high + width)
    assert inside.mean() >= share - 1e-9
    assert low <= 0 <= high
    assert low >= min(array.min(), 0)
    assert high <= max(array.max(), 0)


def test_strong_values_of_few_pixels_are_kept_by_mse_only():
    values = np.concatenate([np.linspace(0, 1, 999_980), np.full(20, 10.0)])
    histogram = histogram_of(values)
    assert percentile_range(histogram, 0.9999)[1] < 2
    assert mse_range(histogram)[1] > 9


def test_a_percentile_cuts_the_longer_tail():
    values = np.concatenate([np.linspace(0, 1, 9999), [1000]])
    low, high = percentile_range(histogram_of(values), 0.999)
    assert low == 0
    assert 0.9 < high < 2
    assert percentile_range(histogram_of(values), 1.0) == (0, 1000)


def test_of_all_ranges_mse_finds_one_that_rounds_best():
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(0, 1, 20_000), random.normal(0, 12, 40)]).astype(np.float32)
    low, high = mse_range(histogram_of(values))
    found = np.square(in_8_bits(values, low, high) - values).mean()
    widest = np.square(in_8_bits(values, values.min(), values.max()) - values).mean()
    grid = np.linspace(0.1, 1, 30)
    best = min(
        np.square(in_8_bits(values, values.min() * a, values.max() * b) - values).mean()
        for a in grid
        for b in grid
    )
    assert found < 0.95 * widest
    assert found < 1.05 * best


def test_mse_keeps_what_is_evenly_spread():
    values = np.linspace(-2, 6, 5001)
    low, high = mse_range(histogram_of(values))
    assert (low, high) == pytest.approx((-2, 6), rel=0.05)


@pytest.mark.parametrize("value", [0.0, 5.0, -3e-7])
def test_one_value_only(value):
    histogram = histogram_of([value] * 4)
    for low, high in (percentile_range(histogram, 0.99), mse_range(histogram)):
        assert low <= 0 <= high
        assert low <= np.float32(value) * 0.99 <= high or value == 0
