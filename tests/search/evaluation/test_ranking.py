"""Rank correlations against scipy's, ties included."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effkeras.search.evaluation.ranking import kendall_tau, spearman

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20)


@given(pairs)
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_they_are_scipys(values):
    from scipy import stats

    first, second = zip(*values, strict=True)
    for ours, theirs in ((kendall_tau, stats.kendalltau), (spearman, stats.spearmanr)):
        found, wanted = ours(first, second), float(theirs(first, second).statistic)
        assert found == pytest.approx(wanted, abs=1e-9) or (math.isnan(found) and math.isnan(wanted))


def test_the_ends_of_the_scale():
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == spearman([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == spearman([1, 2, 3], [3, 2, 1]) == -1
    assert math.isnan(kendall_tau([1, 1], [1, 2]))
