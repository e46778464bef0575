"""A batch of images with one rectangle each, for tests of augmentations."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from effkeras.data.augmentations import AugmentSpec, preset
from effkeras.data.augmentations.batches import Batch

FILL = (10.0, 20.0, 30.0)


def rectangles(count: int = 8, classes: int | None = None) -> Batch:
    """Dark images of 64 x 96 with one bright rectangle; with `classes`, for a classifier, without boxes."""
    pixels = np.tile(np.array(FILL, np.float32), (count, 64, 96, 1))
    boxes, labels = np.zeros((count, 2, 4), np.float32), np.zeros((count, 64, 96), np.uint8)
    for image in range(count):
        top, left = 4 + 3 * image, 6 + 5 * image
        boxes[image, 0] = (top, left, top + 24, left + 20)
        pixels[image, top : top + 24, left : left + 20] = 250
        labels[image, top : top + 24, left : left + 20] = 4
    if classes is not None:
        boxes, labels = boxes[:, :0], labels[:, :0, :0]
    numbers = np.tile(np.array([3, -1], np.int32), (count, 1))[:, : boxes.shape[1]]
    targets = None if classes is None else tf.one_hot(np.arange(count) % classes, classes)
    truths = (pixels, boxes, numbers, np.zeros(numbers.shape, bool), labels)
    return Batch(*map(tf.constant, truths), targets)


def seeds(count: int = 8, start: int = 0) -> tf.Tensor:
    """A seed for each image, int32 (count, 2)."""
    return tf.constant([[7, start + index] for index in range(count)], tf.int32)


def only(**amounts) -> AugmentSpec:
    """These augmentations and no others."""
    return AugmentSpec.from_table({**preset("none", ""), **amounts}, "augment")


def hold_what_they_held(batch: Batch, classes: bool = True) -> int:
    """Whether each pixel of class 4 lies in a box that counts or is ignored, to a pixel; the boxes seen."""
    for boxes, numbers, labels in zip(batch.boxes, batch.classes, batch.labels.numpy(), strict=True):
        there = boxes.numpy()[numbers >= 0]
        inside = np.zeros(labels.shape, bool)
        for top, left, bottom, right in np.rint(there).astype(int):
            inside[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
        assert not ((labels == 4) & ~inside).any()
    return int((batch.classes.numpy() >= 0).sum())
