"""The best so far, and what random search is expected to have found."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from effkeras.search.reporting.searches import best_so_far, expected_best

rewards = st.lists(st.floats(-1, 1), min_size=1, max_size=6)


def test_the_best_never_falls():
    assert best_so_far([0.2, 0.1, 0.5, 0.4]).tolist() == [0.2, 0.2, 0.5, 0.5]


@given(rewards)
def test_the_expected_best_is_the_mean_over_all_orders(values):
    every = [best_so_far(order) for order in itertools.permutations(values)]
    np.testing.assert_allclose(expected_best(values), np.mean(every, axis=0), atol=1e-12)


def test_it_stays_exact_for_long_searches():
    values = np.random.default_rng(0).random(2000)
    expected = expected_best(values)
    np.testing.assert_allclose([expected[0], expected[-1]], [values.mean(), values.max()], rtol=1e-9)
    assert (np.diff(expected) >= -1e-12).all()
