from __future__ import annotations

import numpy as np
import pytest

from effkeras import EffkerasError
from quantize.magnitude.patterns import Blocks, Groups, parse_pattern


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
