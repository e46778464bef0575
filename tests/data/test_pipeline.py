"""Batches are a pure function of the step."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import tiny_classifier, tiny_detector

from effkeras.data.augment_spec import AugmentSpec
from effkeras.data.pipeline import BatchSpec, training_batches
from effkeras.data.splits import open_data
from effkeras.data.store import PictureStore

PLAIN = BatchSpec(size=4, seed=1, augment=None)


@pytest.fixture(scope="module")
def store(digits):
    return PictureStore(open_data(digits, "train"), tiny_detector().input)


def pictures(store, batches: BatchSpec, steps: range) -> np.ndarray:
    made = training_batches(store, tiny_detector(), batches, steps)
    return np.stack([pixels for pixels, _ in made.as_numpy_iterator()])


@pytest.mark.parametrize("augment", [None, AugmentSpec()])
def test_any_stretch_of_steps_is_the_same(store, augment):
    batches = BatchSpec(4, 1, augment)
    whole = pictures(store, batches, range(8))
    np.testing.assert_array_equal(whole[5:], pictures(store, batches, range(5, 8)))


def test_an_epoch_shows_every_picture_once(store):
    shown = pictures(store, PLAIN, range(6)).reshape(24, -1)
    own = np.stack([store[index].pixels.astype(np.float32).ravel() for index in range(24)])
    assert {row.tobytes() for row in shown} == {row.tobytes() for row in own}


def test_epochs_and_seeds_have_orders_of_their_own(store):
    first = pictures(store, PLAIN, range(6))
    assert not np.array_equal(first, pictures(store, PLAIN, range(6, 12)))
    assert not np.array_equal(first, pictures(store, BatchSpec(4, 2, None), range(6)))


def test_targets_belong_to_the_picture(store):
    spec = tiny_detector()
    ((pixels, targets),) = training_batches(store, spec, PLAIN, range(1)).as_numpy_iterator()
    by_picture = {store[i].pixels.astype(np.float32).tobytes(): store[i] for i in range(len(store))}
    for picture, classes in zip(pixels, targets["class_logits"], strict=True):
        sample = by_picture[picture.tobytes()]
        assert set(classes[classes >= 0]) == set(sample.classes[sample.classes >= 0])
    assert targets["box_deltas"].shape == (4, classes.size, 5)


def test_classifier_targets_are_classes(digit_classes):
    spec = tiny_classifier()
    data = open_data(digit_classes, "train")
    store = PictureStore(data, spec.input)
    batches = list(training_batches(store, spec, PLAIN, range(6)).as_numpy_iterator())
    labels = np.concatenate([labels for _, labels in batches])
    assert sorted(labels) == sorted(record.label for record in data.records)
