"""k-means of numbers, also against what tensorflow-model-optimization made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.tfmot_answers import SOURCES, answers
from support.tfmot_clustering import COUNTS, STARTS, kernels

from quantize.magnitude.kmeans import centroids_of, nearest, smallest_count
from quantize.magnitude.sparsity import relative_change

numbers = arrays(np.float32, st.integers(1, 60), elements=st.floats(-10, 10, width=32, allow_subnormal=False))
starts = st.sampled_from(list(STARTS))


@pytest.fixture(scope="module", params=SOURCES)
def theirs(request, tmp_path_factory) -> dict[str, np.ndarray]:
    return answers("clustering", request.param, tmp_path_factory.mktemp("tfmot"))


def clustered(values: np.ndarray, count: int, start: str = "linear") -> np.ndarray:
    centroids = centroids_of(values, count, start)
    return centroids[nearest(values, centroids)]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", kernels())
def test_the_error_is_no_larger_than_the_references(theirs, name, count, start):
    kernel, other = kernels()[name], theirs[f"{name}.{count}.{start}"]
    ours = clustered(kernel, count, start)
    assert len(np.unique(ours)) <= count
    luck = 1.02 if start == "kmeans++" else 1  # they draw other starts than we do
    assert relative_change(kernel, ours) <= luck * relative_change(kernel, other)
    if name == "pruned":
        np.testing.assert_array_equal(ours == 0, kernel == 0)
        assert (other[kernel == 0] == 0).all()


@settings(deadline=None)
@given(numbers, st.integers(3, 20), starts)
def test_at_most_so_many_values_with_zeros_and_signs_kept(values, count, start):
    found = clustered(values, count, start)
    assert len(np.unique(found)) <= count
    if (values == 0).any():
        np.testing.assert_array_equal(np.sign(found), np.sign(values))
    assert found.dtype == values.dtype
    assert found.min() >= values.min() - 1e-5
    assert found.max() <= values.max() + 1e-5


@settings(deadline=None)
@given(numbers, st.integers(3, 20), starts)
def test_clustering_again_changes_nothing(values, count, start):
    once = clustered(values, count, start)
    np.testing.assert_array_equal(clustered(once, count, start), once)


@settings(deadline=None)
@given(numbers, st.integers(3, 20))
def test_every_value_goes_to_the_nearest(values, count):
    centroids = centroids_of(values, count)
    if (centroids == 0).any():
        return
    distances = np.abs(values[:, None].astype(np.float64) - centroids)
    chosen = np.take_along_axis(distances, nearest(values, centroids)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(chosen, distances.min(axis=1), rtol=1e-5, atol=1e-6)


def test_centroids_are_means_of_their_clusters():
    kernel = kernels()["normal"]
    centroids = centroids_of(kernel, 8)
    index = nearest(kernel, centroids)
    means = [kernel[index == number].mean() for number in range(len(centroids))]
    np.testing.assert_allclose(means, centroids, rtol=1e-4)


@pytest.mark.parametrize("start", STARTS)
def test_clear_clusters_are_found_exactly(start):
    wanted = np.array([-3, -1, 0.5, 4], np.float32)
    values = np.repeat(wanted, 10).reshape(5, 8)
    np.testing.assert_array_equal(centroids_of(values, 4, start), wanted)


def test_a_cluster_of_values_far_below_its_neighbours_is_no_zero():
    values = np.array([2, -1.2e-38, 0, 0.5, -1], np.float32)
    np.testing.assert_array_equal(np.sign(clustered(values, 4)), np.sign(values))


@pytest.mark.parametrize(
    ("values", "count"), [([-1, 0, 1], 3), ([0, 1], 2), ([-1, 0], 2), ([-1, 1], 2), ([0], 2), ([1, 2], 2)]
)
def test_zeros_beside_both_signs_need_three(values, count):
    assert smallest_count(np.array(values, np.float32)) == count


def test_two_values_hold_zeros_and_one_sign():
    values = np.array([0, 1, 2, 3, 0], np.float32)
    np.testing.assert_array_equal(centroids_of(values, 2), [0, 2])
    np.testing.assert_array_equal(nearest(values, np.array([0, 2], np.float32)), [0, 1, 1, 1, 0])


def least_error(values: np.ndarray, count: int) -> float:
    """The smallest squared error that `count` values can have, by trying all ranges."""
    ordered = np.sort(values).astype(np.float64)
    sums, squares = (np.concatenate([[0], np.cumsum(one)]) for one in (ordered, ordered**2))
    best = np.concatenate([[0], np.full(len(values), np.inf)])
    for _ in range(count):
        before, best = best, best.copy()
        for stop in range(1, len(values) + 1):
            starts = np.arange(stop)
            spread = squares[stop] - squares[starts] - (sums[stop] - sums[starts]) ** 2 / (stop - starts)
            best[stop] = (before[starts] + spread).min()
    return best[-1]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("power", [1, 3])
def test_the_error_is_near_the_least_there_is(start, power):
    values = np.random.default_rng(4).normal(size=120) ** power
    assert ((values - clustered(values, 6, start)) ** 2).sum() < 1.25 * least_error(values, 6)
