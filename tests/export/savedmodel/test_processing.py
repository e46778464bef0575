"""Preprocessing and postprocessing as a graph give what the same code gives in numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.tiny import tiny_detector

from effkeras.data import preprocess
from effkeras.definitions.definition import InputSpec, ModelSpec, NmsSpec
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.nms import Decoder
from effkeras.detection.segmentation import decode_mask
from export.savedmodel.processing import (
    Placement,
    classes_of,
    detections_of,
    mask_of,
    names_of,
    place,
    to_image,
)

MEAN = (123.675, 116.28, 103.53)
SPECS = {
    "letterbox": InputSpec((64, 96), MEAN, (1.0, 1.0, 1.0), "letterbox"),
    "crop": InputSpec((96, 96), MEAN, (1.0, 1.0, 1.0), "center-crop", 0.875),
    "all": InputSpec((33, 47), MEAN, (1.0, 1.0, 1.0), "center-crop"),
}
IMAGES = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
PLACE = {
    name: tf.function(lambda images, spec=spec: place(images, spec), IMAGES, autograph=False)
    for name, spec in SPECS.items()
}
NMS = {
    "soft": NmsSpec(),
    "soft, few": NmsSpec(sigma=0.3, score_threshold=0.2, max_detections=7),
    "hard": NmsSpec("hard", iou_threshold=0.4),
    "pairs": NmsSpec(max_inputs=300, max_detections=50),
}


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 99))
@example(height=64, width=96, seed=0)
@example(height=1, width=1, seed=0)
@example(height=300, width=1, seed=0)
def test_images_of_any_size(name, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    wanted = preprocess.place(image, SPECS[name])
    pixels, placement = PLACE[name](image[None])
    np.testing.assert_array_equal(pixels[0], preprocess.fill(wanted.content, SPECS[name]))
    for side in ("scale", "offset", "size"):
        np.testing.assert_array_equal(getattr(placement, side), getattr(wanted.placement, side))


def test_a_batch_is_its_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), np.uint8)
    together, _ = PLACE["letterbox"](images)
    for one, image in zip(together, images, strict=True):
        np.testing.assert_array_equal(one, PLACE["letterbox"](image[None])[0][0])


@pytest.mark.parametrize("name", SPECS)
def test_boxes_go_back_to_the_image(name):
    wanted = preprocess.place(np.zeros((130, 75, 3), np.uint8), SPECS[name]).placement
    boxes = np.random.default_rng(0).uniform(-20, 120, (50, 4)).astype(np.float32)
    tensors = (tf.constant(values, tf.float64) for values in (wanted.scale, wanted.offset))
    placement = Placement(*tensors, tf.constant(wanted.size, tf.int64))
    np.testing.assert_array_equal(to_image(tf.constant(boxes), placement), wanted.to_image(boxes))


def placed(height: int, width: int, spec: InputSpec) -> tuple[preprocess.Placement, Placement]:
    own = preprocess.place(np.zeros((height, width, 3), np.uint8), spec).placement
    scale, offset = (tf.constant(values, tf.float64) for values in (own.scale, own.offset))
    return own, Placement(scale, offset, tf.constant(own.size, tf.int64))


def heads(spec: ModelSpec, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    anchors = len(anchor_boxes(spec))
    return {
        "class_logits": random.normal(-2, 2, (anchors, spec.classes)).astype(np.float32),
        "box_deltas": random.normal(0, 0.4, (anchors, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("kind", NMS)
@pytest.mark.parametrize("least", [0.0, 0.6])
def test_detections(kind, least):
    spec = dataclasses.replace(tiny_detector(), nms=NMS[kind])
    outputs = heads(spec, seed=len(kind))
    own, placement = placed(90, 130, spec.input)
    wanted = Decoder.of(spec)(**outputs).above(least)
    tensors = {name: tf.constant(values) for name, values in outputs.items()}
    found = {name: values.numpy() for name, values in detections_of(tensors, placement, spec, least).items()}
    count = found["count"]
    assert count == len(wanted) > 0
    assert len(found["scores"]) == NMS[kind].max_detections
    np.testing.assert_array_equal(found["classes"][:count], wanted.classes)
    np.testing.assert_allclose(found["scores"][:count], wanted.scores, rtol=1e-4)
    np.testing.assert_allclose(found["boxes"][:count], own.to_image(wanted.boxes), atol=1e-3)
    assert [name.decode() for name in found["labels"][:count]] == [names_of(spec)[i] for i in wanted.classes]
    assert not found["boxes"][count:].any()
    assert not found["scores"][count:].any()
    assert set(found["classes"][count:]) <= {-1}
    assert set(found["labels"][count:]) <= {b""}


@pytest.mark.parametrize("shape", [(64, 64), (90, 130), (31, 17), (130, 64)])
def test_masks(shape):
    logits = np.random.default_rng(0).normal(0, 1, (16, 16, 5)).astype(np.float32)
    own, placement = placed(*shape, tiny_detector().input)
    np.testing.assert_array_equal(mask_of(tf.constant(logits), placement), decode_mask(logits, own))


def test_classes_come_best_first():
    spec = tiny_detector()  # ten digits
    scores = np.random.default_rng(0).uniform(0, 1, (4, spec.classes)).astype(np.float32)
    found = classes_of(tf.constant(scores), spec)
    np.testing.assert_array_equal(found["classes"], np.argsort(-scores, axis=-1)[:, :5])
    np.testing.assert_array_equal(found["scores"], -np.sort(-scores, axis=-1)[:, :5])
    np.testing.assert_array_equal(found["all_scores"], scores)
    assert found["labels"].numpy()[0, 0].decode() == spec.labels[scores[0].argmax()]


def test_classes_without_names_are_called_by_their_numbers():
    spec = dataclasses.replace(tiny_detector(), labels=(), category_ids=tuple(range(11, 21)))
    assert names_of(spec)[:2] == ["11", "12"]
    assert names_of(dataclasses.replace(spec, category_ids=()))[:2] == ["0", "1"]
