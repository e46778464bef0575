from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from quantize.magnitude.masks import clusters_of, pruning_masks, relative_change, zero_mask
from quantize.magnitude.patterns import Blocks, Groups

values = st.floats(-10, 10, width=32)
kernels = array_shapes(min_dims=2, max_dims=4, max_side=6).flatmap(
    lambda shape: arrays(np.float32, shape, elements=values, unique=True)
)
shares = st.floats(0, 0.99)


def random_kernels(*scales: float) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [(random.normal(size=(3, 3, 8, 4)) * scale).astype(np.float32) for scale in scales]


@settings(deadline=None)
@given(kernels, shares)
def test_the_largest_weights_stay_and_none_that_is_smaller(kernel, sparsity):
    (mask,) = pruning_masks([kernel], Blocks(), sparsity)
    kept, gone = np.abs(kernel)[mask], np.abs(kernel)[~mask]
    assert kept.size >= max(1, round(kernel.size * (1 - np.float32(sparsity))))
    assert not gone.size or gone.max() < kept.min()


@settings(deadline=None)
@given(kernels, st.integers(1, 4), st.integers(1, 4))
def test_n_of_m_always_follows_its_pattern(kernel, kept, more):
    pattern = Groups(kept, kept + more)
    (mask,) = pruning_masks([kernel], pattern, 0.0)
    assert pattern.follows(np.where(mask, kernel, 0))


@settings(deadline=None)
@given(kernels, shares, st.integers(1, 3), st.integers(1, 3), st.sampled_from(["average", "max"]))
def test_blocks_always_follow_their_pattern(kernel, sparsity, rows, columns, pooling):
    pattern = Blocks(rows, columns, pooling)
    (mask,) = pruning_masks([kernel], pattern, sparsity)
    assert mask.shape == kernel.shape
    assert pattern.follows(mask.astype(np.float32))


@settings(deadline=None)
@given(kernels, shares, shares)
def test_pruning_in_two_goes_is_pruning_in_one(kernel, one, other):
    less, more = sorted((one, other))
    (first,) = pruning_masks([kernel], Blocks(), less)
    (second,) = pruning_masks([np.where(first, kernel, 0)], Blocks(), more)
    (both,) = pruning_masks([kernel], Blocks(), more)
    np.testing.assert_array_equal(np.where(first & second, kernel, 0), np.where(both, kernel, 0))


def test_a_global_threshold_takes_more_from_layers_of_small_weights():
    small, large = random_kernels(1, 4)
    masks = pruning_masks([small, large], Blocks(), 0.5, "global")
    assert masks[0].mean() < 0.3 < 0.7 < masks[1].mean()
    assert np.mean([mask.mean() for mask in masks]) == pytest.approx(0.5, abs=1 / small.size)
    pooled = np.abs(np.concatenate([small.ravel(), large.ravel()]))
    kept = np.concatenate([mask.ravel() for mask in masks])
    assert pooled[kept].min() > pooled[~kept].max()


def test_a_global_threshold_leaves_every_layer_its_largest_weight():
    tiny, large = random_kernels(1e-6, 1)
    masks = pruning_masks([tiny, large], Blocks(), 0.9, "global")
    assert masks[0].sum() == 1
    assert np.abs(tiny)[masks[0]] == np.abs(tiny).max()


def test_blocks_have_a_global_threshold_too():
    masks = pruning_masks(random_kernels(1, 4), Blocks(2, 2), 0.5, "global")
    assert masks[0].mean() < masks[1].mean()
    assert np.mean([mask.mean() for mask in masks]) == pytest.approx(0.5, abs=0.01)


def test_equal_weights_share_their_fate():
    (mask,) = pruning_masks([np.ones((4, 4), np.float32)], Blocks(), 0.5)
    assert mask.all()


@settings(deadline=None)
@given(kernels)
def test_clusters_are_the_kernel_again(kernel):
    found = clusters_of(np.round(kernel))
    np.testing.assert_array_equal(found.kernel, np.round(kernel))
    assert (np.diff(found.centroids) > 0).all()
    assert found.assignment.dtype == np.int32


def test_zero_masks_and_changes():
    kernel = np.array([[0.0, -0.0, 3.0], [4.0, 1e-9, -1.0]], np.float32)
    np.testing.assert_array_equal(zero_mask(kernel), [[False, False, True], [True, True, True]])
    assert relative_change(np.array([3.0, 4.0]), np.array([3.0, 0.0])) == pytest.approx(0.8)
    assert relative_change(np.zeros(2), np.zeros(2)) == 0
