"""Batches are a pure function of the step."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from support.tiny import digits_folder, tiny_classifier, tiny_detector

from effkeras.data.augmentations import AugmentSpec
from effkeras.data.masks import MaskClasses
from effkeras.data.splits import open_data
from effkeras.data.store import ImageStore
from effkeras.definitions.changes import with_heads
from effkeras.training.pipeline import BatchSpec, mask_targets, training_batches

PLAIN = BatchSpec(size=4, seed=1, augment=None)


@pytest.fixture(scope="module")
def store(digits):
    return ImageStore(open_data(digits, "train"), tiny_detector().input)


def images(store, batches: BatchSpec, steps: range) -> np.ndarray:
    made = training_batches(store, tiny_detector(), batches, steps)
    return np.stack([pixels for pixels, _ in made.as_numpy_iterator()])


@pytest.mark.parametrize("augment", [None, AugmentSpec()])
def test_any_stretch_of_steps_is_the_same(store, augment):
    batches = BatchSpec(4, 1, augment)
    whole = images(store, batches, range(8))
    np.testing.assert_array_equal(whole[5:], images(store, batches, range(5, 8)))


@pytest.mark.parametrize("workers", [1, 5])
def test_a_batch_is_the_same_for_any_number_of_workers_and_any_memory(digits, store, monkeypatch, workers):
    batches = BatchSpec(4, 1, AugmentSpec({"mosaic": 0.5, "hsv": (0.1, 0.2, 0.1)}))
    whole = images(store, batches, range(3))
    monkeypatch.setattr(tf.data, "AUTOTUNE", workers)
    streamed = ImageStore(open_data(digits, "train"), tiny_detector().input, memory=0)
    np.testing.assert_array_equal(images(streamed, batches, range(3)), whole)


def test_an_epoch_shows_every_image_once(store):
    shown = images(store, PLAIN, range(6)).reshape(24, -1)
    own = np.stack([store[index].pixels.astype(np.float32).ravel() for index in range(24)])
    assert {row.tobytes() for row in shown} == {row.tobytes() for row in own}


def test_an_epoch_repeats_images_as_often_as_they_ask_for(store):
    """Rounded up or down, in an order of each epoch, and the same from any step on."""
    repeats = (4.0, *[1.0] * 22, 2.6)
    batches = BatchSpec(4, 1, None, repeats)
    own = [store[index].pixels.astype(np.float32).tobytes() for index in range(24)]
    shown = images(store, batches, range(12))
    np.testing.assert_array_equal(shown[7:], images(store, batches, range(7, 12)))
    numbers = [own.index(image.tobytes()) for image in shown.reshape(48, *shown.shape[2:])]
    for epoch in (numbers[:24], numbers[24:]):
        assert len(set(epoch)) < 24
        for index, repeat in enumerate(repeats):
            assert abs(epoch.count(index) - 24 * repeat / sum(repeats)) < 1
    assert numbers[:24] != numbers[24:]


def test_epochs_and_seeds_have_orders_of_their_own(store):
    first = images(store, PLAIN, range(6))
    assert not np.array_equal(first, images(store, PLAIN, range(6, 12)))
    assert not np.array_equal(first, images(store, BatchSpec(4, 2, None), range(6)))


def test_targets_belong_to_the_image(store):
    spec = tiny_detector()
    ((pixels, targets),) = training_batches(store, spec, PLAIN, range(1)).as_numpy_iterator()
    by_image = {store[i].pixels.astype(np.float32).tobytes(): store[i] for i in range(len(store))}
    for image, classes in zip(pixels, targets["class_logits"], strict=True):
        sample = by_image[image.tobytes()]
        assert set(classes[classes >= 0]) == set(sample.classes[sample.classes >= 0])
    assert targets["box_deltas"].shape == (4, classes.size, 5)


def test_classifier_targets_are_classes(digit_classes):
    spec = tiny_classifier()
    data = open_data(digit_classes, "train")
    store = ImageStore(data, spec.input)
    batches = list(training_batches(store, spec, PLAIN, range(6)).as_numpy_iterator())
    labels = np.concatenate([labels for _, labels in batches])
    assert sorted(labels) == sorted(record.label for record in data.records)


def test_targets_of_mixed_images_are_shares_of_classes(digit_classes):
    spec = tiny_classifier()
    store = ImageStore(open_data(digit_classes, "train"), spec.input)
    mixed = BatchSpec(4, 1, AugmentSpec({"cutmix": (1.0, 1.0)}))
    ((_, targets),) = training_batches(store, spec, mixed, range(3, 4)).as_numpy_iterator()
    assert targets.dtype == np.float32
    assert targets.shape == (4, spec.classes)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    *_, (_, again) = training_batches(store, spec, mixed, range(4)).as_numpy_iterator()
    np.testing.assert_array_equal(again, targets)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A store of images with masks, and the definition that they are for."""
    folder = digits_folder(tmp_path_factory.mktemp("data") / "masks", size=64, max_digits=3, masks="rle")
    spec = with_heads(tiny_detector(), ["detect", "segment"])
    data = open_data(folder, "train", masks=True)
    return ImageStore(data, spec.input, MaskClasses.of(spec, data)), spec


def mask_batches(masked, batches: BatchSpec, steps: range) -> np.ndarray:
    store, spec = masked
    made = training_batches(store, spec, batches, steps).as_numpy_iterator()
    return np.stack([targets["mask_logits"] for _, targets in made])


@pytest.mark.parametrize("augment", [None, pytest.param(AugmentSpec(), marks=pytest.mark.slow)])
def test_masks_of_any_stretch_of_steps_are_the_same(masked, augment):
    batches = BatchSpec(4, 1, augment)
    whole = mask_batches(masked, batches, range(8))
    assert whole.shape == (8, 4, 16, 16)
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(whole[5:], mask_batches(masked, batches, range(5, 8)))


def test_masks_belong_to_the_image(masked):
    store, spec = masked
    ((pixels, targets),) = training_batches(store, spec, PLAIN, range(1)).as_numpy_iterator()
    by_image = {store[i].pixels.astype(np.float32).tobytes(): store[i] for i in range(len(store))}
    for image, labels in zip(pixels, targets["mask_logits"], strict=True):
        sample = by_image[image.tobytes()]
        np.testing.assert_array_equal(labels, sample.labels[2::4, 2::4])
        assert set(np.unique(labels)) <= {0, *(sample.classes[sample.classes >= 0] + 1)}


def test_boxes_and_pixels_are_the_same_with_and_without_masks(masked, tmp_path):
    store, spec = masked
    plain = digits_folder(tmp_path / "plain", size=64, max_digits=3)
    bare = ImageStore(open_data(plain, "train"), spec.input)
    batches = BatchSpec(4, 1, AugmentSpec())
    ours = training_batches(store, spec, batches, range(2)).as_numpy_iterator()
    theirs = training_batches(bare, tiny_detector(), batches, range(2)).as_numpy_iterator()
    for (our_pixels, our_targets), (their_pixels, their_targets) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(our_pixels, their_pixels)
        assert our_targets.keys() - their_targets.keys() == {"mask_logits"}
        for name, values in their_targets.items():
            np.testing.assert_array_equal(our_targets[name], values)


def test_without_boxes_the_mask_is_the_only_target(masked):
    store, spec = masked
    made = training_batches(store, with_heads(spec, ["segment"]), PLAIN, range(1))
    ((_, targets),) = made.as_numpy_iterator()
    assert targets.keys() == {"mask_logits"}


def test_masks_beyond_an_odd_input_are_unknown():
    labels = np.arange(33 * 65, dtype=np.int64).reshape(1, 33, 65) % 7
    found = mask_targets(tf.constant(labels.astype(np.uint8))).numpy()
    assert found.shape == (1, 10, 18)
    np.testing.assert_array_equal(found[0, :8, :16], labels[0, 2::4, 2::4])
    assert (found[0, 8:] == 255).all()
    assert (found[0, :, 16:] == 255).all()
