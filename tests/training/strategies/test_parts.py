"""The parts of a batch that processes and devices take are together the batch of one device."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from support.tiny import tiny_detector

from effkeras.data.augmentations import AUGMENTATIONS, AugmentSpec
from effkeras.data.splits import open_data
from effkeras.data.store import ImageStore
from effkeras.training.pipeline import BatchSpec, Part, training_batches

STEPS = range(2, 4)


@pytest.fixture(scope="module")
def made(digits):
    """The pixels and targets of two steps, by preset and part."""
    spec = tiny_detector()
    store = ImageStore(open_data(digits, "train"), spec.input)

    def of(preset: str, part: Part | None) -> list[np.ndarray]:
        batches = BatchSpec(8, 3, AugmentSpec.from_table({"preset": preset}, ""), part=part)
        data = list(training_batches(store, spec, batches, STEPS).as_numpy_iterator())
        return [np.stack(one) for one in zip(*(tf.nest.flatten(each) for each in data), strict=True)]

    return of


@pytest.mark.parametrize("preset", ["light", pytest.param("medium", marks=pytest.mark.slow)])
def test_parts_are_the_batch(made, preset):
    """For two workers with two devices each; `medium` mixes images of the batch."""
    whole = made(preset, None)
    parts = [made(preset, Part(first, 4, 2)) for first in (0, 4)]
    for number, values in enumerate(whole):
        pieces = [part[number].reshape(len(STEPS), 4, *values.shape[2:]) for part in parts]
        # Vectorised kernels round by the size of what they are given.
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), values, rtol=1e-4, atol=5e-3)


def test_only_mixtures_need_the_whole_batch():
    assert {
        name
        for name, kind in AUGMENTATIONS.entries().items()
        if dataclasses.replace(kind(), amount=_on(kind)).mixes
    } == {"mosaic", "mixup", "cutmix"}


def _on(kind: type) -> object:
    """An amount with which an augmentation changes something."""
    own = kind().amount
    if isinstance(own, tuple):
        return tuple(value + 1 for value in own)
    return {bool: True, str: "classification-v0"}.get(type(own), 0.5)
