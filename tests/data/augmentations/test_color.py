"""Hue and saturation change as Keras changes them."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from effkeras.data.augmentations.color import changed_hsv


def test_hue_and_saturation_are_those_of_keras():
    pixels = tf.constant(np.random.default_rng(0).uniform(0, 255, (5, 9, 7, 3)), tf.float32)
    turns, factors = tf.linspace(-0.4, 0.4, 5), tf.linspace(0.2, 1.9, 5)
    ours = changed_hsv(pixels, tf.stack([turns, factors, tf.ones(5)], axis=1))
    turned = keras.layers.RandomHue(0.5).transform_images(pixels, {"factor": turns})
    saturation = keras.layers.RandomSaturation(0.5, value_range=(0, 1))
    np.testing.assert_allclose(ours, saturation.transform_images(turned, {"factor": factors}), atol=0.01)


def test_the_value_is_scaled_and_cut_at_white():
    pixels = tf.constant([[[[10.0, 100, 200]]]])
    np.testing.assert_allclose(
        changed_hsv(pixels, tf.constant([[0.0, 1.0, 1.5]])), [[[[15, 150, 255]]]], atol=0.01
    )
