"""Losses equal the formulas of the papers, written out in numpy at double precision."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effkeras.detection.boxes import decode
from effkeras.detection.losses import (
    BOX_LOSSES,
    BoxLoss,
    CiouLoss,
    FocalLoss,
    GiouLoss,
    IouLoss,
    LossOptions,
    detector_losses,
)


def focal(labels: np.ndarray, logits: np.ndarray, alpha=0.25, gamma=1.5, smoothing=0.0) -> float:
    total = 0.0
    for image, anchor in np.ndindex(labels.shape):
        if labels[image, anchor] == -2:
            continue
        for index, logit in enumerate(logits[image, anchor].astype(np.float64)):
            chance = 1 / (1 + np.exp(-logit))
            is_true = labels[image, anchor] == index
            right = chance if is_true else 1 - chance
            target = float(is_true) * (1 - smoothing) + smoothing / 2
            entropy = -target * np.log(chance) - (1 - target) * np.log(1 - chance)
            total += (alpha if is_true else 1 - alpha) * (1 - right) ** gamma * entropy
    return total / ((labels >= 0).sum() + 1)


def huber(targets: np.ndarray, deltas: np.ndarray, delta=0.1, weight=50.0) -> float:
    error = np.abs(targets[..., :4].astype(np.float64) - deltas)
    losses = np.where(error <= delta, 0.5 * error**2, delta * error - 0.5 * delta**2)
    positive = targets[..., 4]
    return weight * (losses.sum(axis=-1) * positive).sum() / (4 * (positive.sum() + 1))


def box_distance(kind: str, true: np.ndarray, found: np.ndarray) -> float:
    """The papers' losses of two boxes in pixels: ymin, xmin, ymax, xmax."""
    sizes, others = true[2:] - true[:2], found[2:] - found[:2]
    overlap = np.prod(np.maximum(np.minimum(true[2:], found[2:]) - np.maximum(true[:2], found[:2]), 0))
    union = np.prod(sizes) + np.prod(others) - overlap
    iou = overlap / union
    hull = np.maximum(true[2:], found[2:]) - np.minimum(true[:2], found[:2])
    if kind == "iou":
        return 1 - iou
    if kind == "giou":
        return 1 - (iou - (np.prod(hull) - union) / np.prod(hull))
    apart = ((true[:2] + true[2:]) / 2 - (found[:2] + found[2:]) / 2) ** 2
    v = 4 / np.pi**2 * (np.arctan(sizes[1] / sizes[0]) - np.arctan(others[1] / others[0])) ** 2
    return 1 - iou + apart.sum() / (hull**2).sum() + v / (1 - iou + v) * v


def class_case(seed: int, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(-2, classes, (2, 13)), draw.normal(0, 4, (2, 13, classes)).astype(np.float32)


def box_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    targets = draw.normal(0, 1, (2, 13, 5)).astype(np.float32)
    targets[..., 4] = draw.integers(0, 2, (2, 13))
    return targets, targets[..., :4] + draw.normal(0, 0.15, (2, 13, 4)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 5]),
    st.sampled_from([0.25, 0.6]),
    st.sampled_from([0.0, 1.5, 2.0]),
    st.sampled_from([0.0, 0.1]),
)
def test_focal_loss_is_the_formula(seed, classes, alpha, gamma, smoothing):
    labels, logits = class_case(seed, classes)
    ours = float(FocalLoss(alpha, gamma, smoothing)(labels, logits))
    assert ours == pytest.approx(focal(labels, logits, alpha, gamma, smoothing), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.3]), st.sampled_from([1.0, 50.0]))
def test_box_loss_is_the_formula(seed, delta, weight):
    targets, deltas = box_case(seed)
    ours = float(BoxLoss(delta, weight)(targets, deltas))
    assert ours == pytest.approx(huber(targets, deltas, delta, weight), rel=1e-4)


@pytest.mark.parametrize("kind", ["iou", "giou", "ciou"])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_losses_of_overlap_are_those_of_boxes_in_pixels(kind, seed):
    """Far boxes too; the loss sees only deltas, which are relative to the anchors."""
    draw = np.random.default_rng(seed)
    corners = draw.uniform(0, 50, (13, 2))
    anchors = np.concatenate([corners, corners + draw.uniform(5, 60, (13, 2))], axis=1)
    targets, deltas = box_case(seed)
    deltas[0] = np.minimum(targets[0, :, :4] + draw.normal(0, 1, (13, 4)), 4)  # not beyond the losses' limit
    true, found = (decode(one.astype(np.float64), anchors) for one in (targets[..., :4], deltas))
    total = sum(
        box_distance(kind, true[at], found[at]) for at in zip(*targets[..., 4].nonzero(), strict=True)
    )
    sizes = anchors[:, 2:] - anchors[:, :2]
    made = detector_losses(LossOptions(box=kind, box_weight=3.0), sizes[:, 0] / sizes[:, 1])["box_deltas"]
    wanted = 3 * total / (targets[..., 4].sum() + 1)
    assert float(made(targets, deltas)) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", ["iou", "giou", "ciou"])
def test_losses_of_overlap_of_right_and_of_far_boxes(kind):
    """Nothing for the right box; finite gradients for boxes of any size, also where no object is."""
    import tensorflow as tf

    loss = detector_losses(LossOptions(box=kind))["box_deltas"]
    targets, _ = box_case(0)
    assert float(loss(targets, targets[..., :4])) == pytest.approx(0, abs=1e-5)
    deltas = tf.Variable(targets[..., :4] + np.where(targets[..., 4:] > 0, 0.0, 200.0).astype("float32"))
    with tf.GradientTape() as tape:
        value = loss(targets, deltas)
    assert np.isfinite(tape.gradient(value, deltas)).all()
    deltas.assign(tf.fill(deltas.shape, 200.0))
    with tf.GradientTape() as tape:
        value = loss(targets, deltas)
    assert np.isfinite(tape.gradient(value, deltas)).all()


def test_box_losses_are_the_settings_names():
    import typing

    from effkeras.training.settings import TrainSettings

    assert set(BOX_LOSSES) == set(typing.get_args(typing.get_type_hints(TrainSettings)["box_loss"]))


def test_class_weights_count_an_anchor_so_often():
    labels, logits = class_case(6, classes=3)
    weights = (3.0, 1.0, 0.5)
    by_hand = sum(
        (weights[label] if label >= 0 else 1) * focal(np.array([[label]]), logit[None, None])
        * (2 if label >= 0 else 1)  # a positive alone is divided by 2
        for label, logit in zip(labels.ravel(), logits.reshape(-1, 3), strict=True)
    ) / ((labels >= 0).sum() + 1)  # fmt: skip
    assert float(FocalLoss(class_weights=weights)(labels, logits)) == pytest.approx(by_hand, rel=1e-4)


def test_defaults_are_the_papers():
    labels, logits = class_case(0)
    targets, deltas = box_case(0)
    losses = detector_losses()
    assert float(losses["class_logits"](labels, logits)) == pytest.approx(focal(labels, logits), rel=1e-4)
    assert float(losses["box_deltas"](targets, deltas)) == pytest.approx(huber(targets, deltas), rel=1e-4)


def test_ignored_anchors_count_nothing():
    labels, logits = class_case(1)
    labels[:, ::2] = -2
    loss = FocalLoss()
    before = float(loss(labels, logits))
    logits[:, ::2] = 50
    assert float(loss(labels, logits)) == before
    assert float(loss(np.full_like(labels, -2), logits)) == 0


def test_boxes_of_negative_anchors_count_nothing():
    targets, deltas = box_case(2)
    before = float(BoxLoss()(targets, deltas))
    deltas[targets[..., 4] == 0] = 99
    assert float(BoxLoss()(targets, deltas)) == before


def test_a_batch_is_normalised_by_all_its_positives():
    labels = np.array([[0, 1, 1], [-1, -1, -1]])
    logits = np.zeros((2, 3, 2), np.float32)
    # Every class of every anchor has the chance 0.5, so all differ by their balance only.
    entropy = 0.5**1.5 * np.log(2)
    assert float(FocalLoss()(labels, logits)) == pytest.approx(entropy * (3 * 0.25 + 9 * 0.75) / 4, rel=1e-5)
    targets = np.zeros((2, 3, 5), np.float32)
    targets[0, :, 4] = 1
    far = np.ones((2, 3, 4), np.float32)
    assert float(BoxLoss()(targets, far)) == pytest.approx(50 * 12 * 0.095 / (4 * 4), rel=1e-5)


def test_label_smoothing_reaches_the_focal_loss():
    labels, logits = class_case(3)
    smoothed = detector_losses(LossOptions(label_smoothing=0.1))["class_logits"]
    assert float(smoothed(labels, logits)) == pytest.approx(focal(labels, logits, smoothing=0.1), rel=1e-4)


def test_extreme_logits_give_finite_losses_and_gradients():
    import tensorflow as tf

    logits = tf.Variable([[[-1e4, 1e4], [1e4, -1e4]]])
    with tf.GradientTape() as tape:
        loss = FocalLoss()(np.array([[0, 0]]), logits)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_bfloat16_predictions_are_computed_in_float32():
    labels, logits = class_case(4)
    targets, deltas = box_case(4)
    rounded = keras.ops.cast(logits, "bfloat16")
    loss = FocalLoss()(labels, rounded)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(loss) == pytest.approx(focal(labels, np.asarray(rounded, np.float32)), rel=1e-4)
    rounded = keras.ops.cast(deltas, "bfloat16")
    loss = BoxLoss()(targets, rounded)
    assert float(loss) == pytest.approx(huber(targets, np.asarray(rounded, np.float32)), rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        FocalLoss(alpha=0.3, gamma=2.0, label_smoothing=0.1, class_weights=[1, 2, 3, 4, 5], name="mine"),
        BoxLoss(delta=0.2, weight=3.0, name="its"),
        IouLoss(weight=3.0, name="its"),
        GiouLoss(weight=3.0),
        CiouLoss(weight=3.0, aspects=np.linspace(0.5, 2, 13)),
    ],
)
def test_constants_survive_serialisation(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert again.name == loss.name
    targets, deltas = box_case(5)
    case = class_case(5) if isinstance(loss, FocalLoss) else (targets, deltas)
    assert float(again(*case)) == float(loss(*case))
