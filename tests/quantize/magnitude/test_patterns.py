from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from effkeras import EffkerasError
from quantize.magnitude.kmeans import clusters_of
from quantize.magnitude.patterns import Blocks, Groups, parse_pattern, pruning_masks
from quantize.magnitude.sparsity import relative_change


def column(*values: float) -> np.ndarray:
    """A dense kernel of one filter."""
    return np.array(values, np.float32)[:, None]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("unstructured", Blocks()),
        ("2:4", Groups(2, 4)),
        ("1:16", Groups(1, 16)),
        ("1x4", Blocks(1, 4)),
        ("8x1", Blocks(8, 1)),
        ("1x1", Blocks()),
    ],
)
def test_names(text, pattern):
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4:4", "'4:4' leaves all weights of every 4; give n:m with 0 < n < m"),
        ("5:4", "'5:4' leaves all weights"),
        ("0:4", "'0:4' leaves none of every 4"),
        ("0x4", "'0x4' names an empty block; give ROWSxCOLUMNS of at least 1x1"),
        (
            "unstructed",
            r"no pruning pattern 'unstructed' \(n:m or ROWSxCOLUMNS\); did you mean 'unstructured'",
        ),
        ("2:4:8", "no pruning pattern '2:4:8'.*did you mean '2:4'"),
        ("2:-4", "no pruning pattern"),
        ("", "no pruning pattern"),
    ],
)
def test_what_is_no_pattern_is_refused(text, message):
    with pytest.raises(EffkerasError, match=message):
        parse_pattern(text)


def test_groups_keep_the_largest_along_the_input_channels():
    mask = Groups(2, 4).mask(column(0.1, -3, 2, 0.5, -4, 1, 1, 0))
    np.testing.assert_array_equal(mask[:, 0], [0, 1, 1, 0, 1, 1, 0, 0])


def test_a_group_that_is_not_full_keeps_as_many():
    mask = Groups(2, 4).mask(column(1, 2, 3, 4, 5, 6, 7))
    np.testing.assert_array_equal(mask[:, 0], [0, 0, 1, 1, 0, 1, 1])


def test_groups_are_found_at_each_position_of_the_window():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 5))
    mask = Groups(1, 4).mask(kernel)
    for position in np.ndindex(3, 3):
        np.testing.assert_array_equal(mask[position], Groups(1, 4).mask(kernel[position]))
    assert (mask.reshape(3, 3, 2, 4, 5).sum(axis=3) == 1).all()


def test_a_block_is_judged_by_its_average_or_its_largest():
    kernel = np.array([[3, 3, 5, 0], [1, 1, 1, 1]], np.float32)
    average, largest = Blocks(1, 2).scores(kernel), Blocks(1, 2, "max").scores(kernel)
    np.testing.assert_array_equal(average, [[3, 2.5], [1, 1]])
    np.testing.assert_array_equal(largest, [[3, 5], [1, 1]])


def test_blocks_spread_over_their_weights_and_end_at_the_edge():
    mask = Blocks(2, 2).spread(np.array([[True, False], [False, True]]), (3, 4))
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]])


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_blocks_of_a_convolution_are_those_of_its_matrices(pooling):
    kernel = np.random.default_rng(0).normal(size=(3, 2, 9, 7))
    blocks = Blocks(2, 3, pooling)
    scores = blocks.scores(kernel)
    assert scores.shape == (3, 2, 5, 3)
    for position in np.ndindex(3, 2):
        np.testing.assert_allclose(scores[position], blocks.scores(kernel[position]))


def test_patterns_are_recognised():
    assert Groups(2, 4).follows(column(0, 1, 1, 0, 3))
    assert not Groups(2, 4).follows(column(1, 1, 1, 0))
    assert Blocks(2, 1).follows(column(0, 0, 1, 1, 0))
    assert not Blocks(2, 1).follows(column(0, 1, 1, 1))
    assert Blocks().follows(column(0, 1, 1, 1))


@pytest.mark.parametrize(
    ("text", "shape", "why"),
    [
        ("1x4", (8, 4), ""),
        ("1x4", (1, 1, 8, 3), "the block 1x4 is larger than its kernel 8x3"),
        ("16x1", (3, 3, 8, 3), "the block 16x1 is larger than its kernel 8x3"),
        ("2:4", (3, 3, 3, 8), ""),
        ("2:4", (2, 8), "it has 2 input channels, of which 2:4 keeps all"),
        ("unstructured", (1, 1), ""),
    ],
)
def test_kernels_that_are_too_small_say_so(text, shape, why):
    assert parse_pattern(text).unfit(shape) == why


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
    np.testing.assert_array_equal(kernel != 0, [[False, False, True], [True, True, True]])
    assert relative_change(np.array([3.0, 4.0]), np.array([3.0, 0.0])) == pytest.approx(0.8)
    assert relative_change(np.zeros(2), np.zeros(2)) == 0
