"""Blur is Keras's; noise has the deviation that it should have."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.augmenting import only

from effkeras.data.augment import augment_images
from effkeras.data.augmentations.quality import blurred
from effkeras.support.errors import EffkerasError


def test_blur_is_that_of_keras():
    pixels = tf.constant(np.random.default_rng(0).uniform(0, 255, (1, 24, 32, 3)), tf.float32)
    layer = keras.layers.RandomGaussianBlur(1.0, kernel_size=9, sigma=1.0)
    told = {"blur_factor": tf.constant([1.5, 1.5]), "should_apply_blur": tf.constant([True])}
    theirs = layer.transform_images(pixels, told)
    np.testing.assert_allclose(blurred(pixels, tf.constant([1.5]), 9), theirs, atol=0.01)
    np.testing.assert_array_equal(blurred(pixels, tf.constant([0.2]), 9), pixels)


def test_noise_differs_by_image_up_to_the_amount():
    grey = tf.fill((32, 24, 24, 3), 128.0)
    seeds = tf.constant([[1, index] for index in range(32)], tf.int32)
    deviations = augment_images(grey, seeds, only(noise=0.1), (0.0, 0.0, 0.0)).numpy().std(axis=(1, 2, 3))
    assert deviations.max() < 27
    assert deviations.min() < 5
    assert deviations.max() > 20


def test_negative_amounts_are_refused():
    with pytest.raises(EffkerasError, match="blur must be 0 or more, not -1"):
        only(blur=-1.0)
