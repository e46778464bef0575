"""Policies are those of their papers; colours change as Pillow's; boxes and masks move with the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from support.augmenting import FILL, hold_what_they_held, only, rectangles, seeds

from effkeras.data.augment import augment
from effkeras.data.augmentations.policies import policy_names, sub_policies
from effkeras.data.augmentations.policy.operations import Draw, Limits, One, operation
from effkeras.support.errors import EffkerasError

LIMITS = Limits(translate=0.4, cutout=0.2, box_translate=0.2, box_cutout=0.1)


def test_policies_have_the_published_sizes():
    counts = {name: len(sub_policies(name)) for name in policy_names()}
    assert counts.pop("classification-v0") == 25
    assert counts == {"detection-v0": 5, "detection-v1": 20, "detection-v2": 15, "detection-v3": 15}
    assert sub_policies("detection-v1")[:5] == sub_policies("detection-v0")
    assert {len(one) for name in policy_names() for one in sub_policies(name)} == {2, 3}


@pytest.mark.parametrize("name", policy_names())
def test_each_operation_exists_and_has_a_chance_and_a_level(name):
    for operation_name, chance, level in (step for one in sub_policies(name) for step in one):
        operation(operation_name, LIMITS, (64, 96))
        assert 0 <= chance <= 1
        assert level in range(11)


def test_an_unknown_policy_or_level_is_refused():
    with pytest.raises(EffkerasError, match="auto_augment must be one of classification-v0, detection-v0"):
        only(auto_augment="v9")
    with pytest.raises(EffkerasError, match="rand_augment must be a number of operations and a level"):
        only(rand_augment=[2, 31.0])


def photo() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, (24, 32, 3))
    ramp = np.mgrid[:24, :32].sum(0)[..., None] * [2.0, 3, 1] + [60, 20, 110]
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


def draw(level: float, sign: float = 1.0, chance: float = 1.0) -> Draw:
    place, seed = tf.constant([0.5, 0.25]), tf.constant([3, 4])
    return Draw(tf.constant(float(level)), tf.constant(chance), tf.constant(sign), place, seed)


PILLOW = {
    "AutoContrast": lambda image, level: ImageOps.autocontrast(image),
    "Brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(0.1 + 0.18 * level),
    "Color": lambda image, level: ImageEnhance.Color(image).enhance(0.1 + 0.18 * level),
    "Contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(0.1 + 0.18 * level),
    "Equalize": lambda image, level: ImageOps.equalize(image),
    "Invert": lambda image, level: ImageOps.invert(image),
    "Posterize": lambda image, level: ImageOps.posterize(image, max(1, int(0.4 * level))),
    "Sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(0.1 + 0.18 * level),
    "Solarize": lambda image, level: ImageOps.solarize(image, int(25.6 * level)),
}


@pytest.mark.parametrize("level", [2, 8])
@pytest.mark.parametrize("name", PILLOW)
def test_colours_change_as_pillow_changes_them(name, level):
    before = photo()
    one = One(tf.constant(before, tf.float32), tf.zeros((0, 4)), tf.zeros(0), tf.zeros((0, 0), tf.uint8))
    ours = operation(name, LIMITS, (24, 32))(one, draw(level)).pixels
    theirs = np.asarray(PILLOW[name](Image.fromarray(before), level)).astype(np.float32)
    # Pillow rounds to whole numbers, the mean grey of an image too.
    np.testing.assert_allclose(ours, theirs, atol=2.0)


def one_rectangle() -> One:
    batch = rectangles(4)
    return One(batch.pixels[3], batch.boxes[3], tf.constant([1.0, 0.0]), batch.labels[3])


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", ["Rotate", "ShearX_BBox", "ShearY", "TranslateX", "TranslateY_BBox", "Flip"])
def test_boxes_surround_what_moved(name, sign):
    before = one_rectangle()
    after = operation(name, LIMITS, (64, 96))(before, draw(4, sign))
    bright = np.argwhere(after.pixels.numpy()[..., 0] > 150)
    around = [*bright.min(axis=0), *(bright.max(axis=0) + 1)]
    np.testing.assert_allclose(after.boxes[0], around, atol=1.5)
    inside = np.argwhere(after.labels.numpy() == 4)
    np.testing.assert_allclose([*inside.min(axis=0), *(inside.max(axis=0) + 1)], around, atol=1.5)
    assert 0.9 < after.visible[0] <= 1.001
    assert not np.array_equal(before.boxes, after.boxes)


@pytest.mark.parametrize("name", ["TranslateY", "ShearX", "Flip", "Equalize", "Cutout", "Solarize"])
def test_operations_inside_boxes_leave_the_rest(name):
    before = one_rectangle()
    ramp = before.pixels + np.mgrid[:64, :96].sum(0)[..., None] * 0.3 - 40
    before = before._replace(pixels=tf.cast(ramp, tf.float32))
    run = operation(f"{name}_Only_BBoxes", LIMITS, (64, 96))
    after = run(before, draw(8, chance=3.0))
    top, left, bottom, right = before.boxes[0].numpy().astype(int)
    changed = np.abs(after.pixels - before.pixels).max(axis=-1) > 0.5
    assert changed[top:bottom, left:right].any()
    changed[top:bottom, left:right] = False
    assert not changed.any()
    np.testing.assert_array_equal(run(before, draw(8, chance=0.0)).pixels, before.pixels)


def test_a_rectangle_is_cut_out_of_a_box_and_less_of_it_is_visible():
    before = one_rectangle()
    after = operation("BBox_Cutout", LIMITS, (64, 96))(before, draw(10))
    hidden = np.all(after.pixels == 128, axis=-1)
    top, left, bottom, right = before.boxes[0].numpy().astype(int)
    share = hidden[top:bottom, left:right].mean()
    assert 0.2 < share < 0.6
    assert float(after.visible[0]) == pytest.approx(1 - share, abs=1e-5)


def test_operations_differ_by_image_and_boxes_follow():
    after = augment(rectangles(), seeds(), only(auto_augment="detection-v2"), FILL)
    hold_what_they_held(after)
    changes = np.abs(after.pixels - rectangles().pixels).mean(axis=(1, 2, 3))
    assert len(set(changes.round(2))) > 3
