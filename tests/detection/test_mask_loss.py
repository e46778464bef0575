"""The loss of a mask is the mean cross-entropy of the pixels whose class is known."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from effkeras.detection.losses import mask_loss


def case() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, (2, 3, 5)).astype(np.int32)
    labels[0, :2] = 255
    return labels, draw.normal(0, 3, (2, 3, 5, 4)).astype(np.float32)


def test_value_by_hand():
    """Chances 1/2 and 3/4 of the right class, and one pixel that does not count."""
    logits = np.log(np.array([[[[1, 1], [3, 1], [1, 99]]]], np.float32))
    labels = np.array([[[1, 0, 255]]])
    assert float(mask_loss()(labels, logits)) == pytest.approx(-(np.log(1 / 2) + np.log(3 / 4)) / 2, rel=1e-5)


def test_it_is_the_formula():
    labels, logits = case()
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    known = labels != 255
    right = np.take_along_axis(chances, np.where(known, labels, 0)[..., None], axis=-1)[..., 0]
    assert float(mask_loss()(labels, logits)) == pytest.approx(-np.log(right[known]).mean(), rel=1e-5)


def test_unknown_pixels_teach_nothing():
    labels, logits = case()
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = mask_loss()(labels, variable)
    slope = tape.gradient(loss, variable).numpy()
    assert not slope[labels == 255].any()
    assert slope[labels != 255].any(axis=-1).all()


def test_a_batch_of_unknown_pixels_has_no_loss():
    labels, logits = case()
    assert float(mask_loss()(np.full_like(labels, 255), logits)) == 0
