"""Quarter turns are NumPy's, for square images; others turn by halves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from support.augmenting import FILL, hold_what_they_held, only, rectangles, seeds

from effkeras.data.augment import augment
from effkeras.data.augmentations.geometry import Crop
from effkeras.support.errors import EffkerasError


def test_square_images_turn_by_quarters():
    pixels = tf.constant(np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)), tf.float32)
    batch = rectangles()
    # The fourth rectangle and those before it lie within the first 64 columns.
    before = batch._replace(pixels=pixels, labels=batch.labels[:, :, :64])
    before = type(before)(*(None if part is None else part[:4] for part in before))
    seen = set()
    for start in range(0, 16, 4):
        after = augment(before, seeds(4, start), only(rotate90=True), FILL)
        assert hold_what_they_held(after) == 4
        for one, was, labels, mask in zip(
            after.pixels, before.pixels, after.labels, before.labels, strict=True
        ):
            matches = [turns for turns in range(4) if np.allclose(one, np.rot90(was, turns), atol=1e-2)]
            assert len(matches) == 1
            np.testing.assert_array_equal(labels, np.rot90(mask, matches[0]))
            seen.update(matches)
    assert seen == {0, 1, 2, 3}


def test_others_turn_by_halves():
    before = rectangles()
    after = augment(before, seeds(), only(rotate90=True), FILL)
    turned = [
        np.allclose(one, was[::-1, ::-1], atol=1e-2)
        for one, was in zip(after.pixels, before.pixels.numpy(), strict=True)
    ]
    assert 0 < sum(turned) < 8


def test_a_crop_has_the_share_of_the_area_and_the_proportions():
    """Of 400 draws, by what the move does to the frame: its inverse is the part that is seen."""
    draws = tf.constant(np.random.default_rng(0).uniform(size=(400, 4)), tf.float32)
    move = Crop((0.2, 0.6)).move(draws, (64, 96))
    low = -move.offset / move.scale
    high = low + tf.constant([[64.0, 96.0]]) / move.scale
    assert float(tf.reduce_min(low)) >= -1e-3
    assert (high <= [64.001, 96.001]).numpy().all()
    shares = ((high - low) / [64.0, 96.0]).numpy()
    area, proportion = shares.prod(axis=1), shares[:, 1] / shares[:, 0]
    assert 0.2 <= area.min() < 0.22
    assert 0.58 < area.max() <= 0.6001
    assert abs(area.mean() - 0.4) < 0.02
    assert 0.7499 <= proportion.min() < 0.77
    assert 1.3 < proportion.max() <= 1.3334


def test_a_crop_of_more_than_the_image_is_refused():
    with pytest.raises(EffkerasError, match="crop must be two shares of the area"):
        only(crop=[0.5, 1.5])
