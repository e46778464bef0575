"""Reading a network's outputs in the graph finds what `Decoder` and `decode_mask` find."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from support.tiny import tiny_detector

from effkeras.data import preprocess
from effkeras.definitions.definition import InputSpec, ModelSpec, NmsSpec
from effkeras.detection.anchors import anchor_boxes
from effkeras.detection.nms import Decoder
from effkeras.detection.segmentation import decode_mask
from export.savedmodel.postprocess import classes_of, detections_of, mask_of, names_of
from export.savedmodel.preprocess import Placement

NMS = {
    "soft": NmsSpec(),
    "soft, few": NmsSpec(sigma=0.3, score_threshold=0.2, max_detections=7),
    "hard": NmsSpec("hard", iou_threshold=0.4),
    "pairs": NmsSpec(max_inputs=300, max_detections=50),
}


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
