"""Images reach the network as `tf.image.resize` would bring them, and boxes go there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effkeras.data.preprocess import fill, network_input, place, resize_bilinear
from effkeras.definitions.definition import InputSpec

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
sides = st.integers(1, 70)


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3)).astype(np.uint8)


def letterbox(height: int, width: int) -> InputSpec:
    return InputSpec((height, width), MEAN, STD, "letterbox")


def center_crop(height: int, width: int, crop: float = 0.875) -> InputSpec:
    return InputSpec((height, width), MEAN, STD, "center-crop", crop)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides)
def test_resizing_is_tensorflows(height, width, rows, columns):
    import tensorflow as tf

    source = random_image(height, width)
    ours = resize_bilinear(source, (rows, columns))
    wanted = tf.image.resize(source.astype(np.float32), (rows, columns)).numpy()
    assert ours.dtype == np.uint8
    assert ours.shape == (rows, columns, 3)
    assert np.abs(ours - wanted).max() <= 0.51


def test_the_same_size_is_the_same_image():
    source = random_image(9, 7)
    np.testing.assert_array_equal(resize_bilinear(source, (9, 7)), source)


@pytest.mark.parametrize(
    ("source", "size", "inner"),
    [
        ((480, 640), (512, 512), (384, 512)),
        ((640, 480), (512, 512), (512, 384)),
        ((100, 100), (320, 320), (320, 320)),
        ((50, 200), (96, 160), (40, 160)),
        ((200, 50), (96, 160), (96, 24)),
        ((1, 500), (64, 64), (1, 64)),
        ((77, 77), (320, 320), (320, 320)),  # 77 * (320 / 77) is below 320
        ((60, 77), (320, 320), (249, 320)),
    ],
)
def test_a_letterbox_keeps_the_shape_of_the_image(source, size, inner):
    placed = place(random_image(*source), letterbox(*size))
    assert placed.content.shape == (*inner, 3)
    assert placed.placement.size == source
    assert placed.placement.offset == (0, 0)
    assert placed.placement.scale == pytest.approx((inner[0] / source[0], inner[1] / source[1]))
    np.testing.assert_array_equal(placed.content, resize_bilinear(random_image(*source), inner))


def test_a_letterbox_is_filled_below_and_right():
    source = random_image(10, 20)
    pixels = network_input(source, letterbox(40, 40))
    assert pixels.shape == (40, 40, 3)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels[:20], resize_bilinear(source, (20, 40)))
    assert (pixels[20:] == np.float32(MEAN)).all()
    right = network_input(random_image(20, 10), letterbox(40, 40))
    assert (right[:, 20:] == np.float32(MEAN)).all()


def test_the_filling_normalises_to_nothing():
    from effkeras.layers import Normalize

    pixels = network_input(random_image(10, 20), letterbox(40, 40))
    normalised = np.asarray(Normalize(MEAN, STD)(pixels[None]))[0]
    assert np.abs(normalised[20:]).max() < 1e-6
    assert np.abs(normalised[:20]).max() > 1


def test_a_full_image_is_not_filled():
    content = random_image(40, 40)
    np.testing.assert_array_equal(fill(content, letterbox(40, 40)), content.astype(np.float32))


@pytest.mark.parametrize(
    ("source", "spec", "top", "left", "cut"),
    [
        ((100, 200), center_crop(40, 40, 1.0), 0, 50, (100, 100)),
        ((200, 100), center_crop(40, 40, 1.0), 50, 0, (100, 100)),
        ((100, 200), center_crop(40, 40, 0.5), 25, 75, (50, 50)),
        ((100, 100), center_crop(224, 224), 6, 6, (88, 88)),
        ((100, 100), center_crop(40, 80, 1.0), 25, 0, (50, 100)),
        ((1, 1), center_crop(40, 40), 0, 0, (1, 1)),
    ],
)
def test_a_center_crop_is_cut_from_the_middle(source, spec, top, left, cut):
    image = random_image(*source)
    placed = place(image, spec)
    inner = image[top : top + cut[0], left : left + cut[1]]
    np.testing.assert_array_equal(placed.content, resize_bilinear(inner, spec.size))
    corner = np.array([[top, left, top + cut[0], left + cut[1]]], np.float32)
    np.testing.assert_allclose(placed.placement.to_input(corner), [[0, 0, *spec.size]], atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 300), st.integers(2, 300), st.booleans(), st.integers(0, 2**32 - 1))
def test_boxes_go_there_and_back(height, width, is_letterbox, seed):
    spec = letterbox(96, 160) if is_letterbox else center_crop(96, 160)
    placement = place(random_image(height, width), spec).placement
    corners = np.sort(np.random.default_rng(seed).uniform(0, 1, (5, 2, 2)), axis=1).reshape(5, 4)
    boxes = (corners * [height, width, height, width]).astype(np.float32)
    np.testing.assert_allclose(placement.to_image(placement.to_input(boxes)), boxes, atol=2e-3)


def test_boxes_are_clipped_to_the_image_on_the_way_back():
    placement = place(random_image(50, 100), letterbox(100, 100)).placement
    assert placement.to_image(np.array([[-5.0, -5, 99, 120]])).tolist() == [[0, 0, 50, 100]]
    assert placement.to_input(np.array([[10.0, 20, 30, 40]])).tolist() == [[10, 20, 30, 40]]
