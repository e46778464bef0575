"""The head for masks: its wiring against plain numpy, its counts against the built model, its names."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.tiny import tiny_detector

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_heads, with_size
from effkeras.definitions.definition import ModelSpec, SegmentSpec
from effkeras.graph.counting import count, layer_channels
from effkeras.graph.heads import mask_logits, mask_size
from effkeras.graph.keras_net import KerasNet

BOTH = ("detect", "segment")
EPSILON = 1e-3


def three_levels() -> ModelSpec:
    return with_heads(tiny_detector(), BOTH)


@pytest.fixture(scope="module")
def head() -> keras.Model:
    """The head alone, on a pyramid whose sides do not halve evenly, with weights that all matter."""
    spec = three_levels()
    maps = [keras.Input((*size, spec.fpn.channels)) for size in ((10, 13), (5, 7), (3, 4))]
    model = keras.Model(maps, mask_logits(KerasNet(), maps, spec))
    draw = np.random.default_rng(3)
    for weight in model.weights:
        positive = weight.name in ("gamma", "moving_variance")
        weight.assign(draw.uniform(0.5, 2, weight.shape) if positive else draw.normal(0, 0.2, weight.shape))
    return model


def doubled(x: np.ndarray, layer: keras.layers.Layer) -> np.ndarray:
    """A transposed convolution of stride 2: every pixel leaves its kernel's image at twice its place."""
    kernel = np.asarray(layer.kernel, np.float64)  # (3, 3, out, in)
    height, width, _ = x.shape
    full = np.zeros((2 * height + 1, 2 * width + 1, kernel.shape[2]))
    for row in range(height):
        for column in range(width):
            full[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += kernel @ x[row, column]
    bias = np.asarray(layer.bias) if layer.use_bias else 0
    return full[:-1, :-1] + bias


def normalised(x: np.ndarray, layer: keras.layers.Layer) -> np.ndarray:
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in layer.weights)
    return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta


def test_the_wiring_is_the_reference_codes(head):
    """Level by level: doubled, cut to the finer map, normalised, relu6, put beside it; doubled at the end."""
    draw = np.random.default_rng(4)
    maps = [draw.normal(0, 1, value.shape[1:]) for value in head.inputs]
    (found,) = head([one[None].astype(np.float32) for one in maps], training=False).numpy()
    x = maps[2]
    for level in (4, 3):
        skip = maps[level - 3]
        x = doubled(x, head.get_layer(f"segment_p{level}_conv"))[: skip.shape[0], : skip.shape[1]]
        x = np.clip(normalised(x, head.get_layer(f"segment_p{level}_bn")), 0, 6)
        x = np.concatenate([x, skip], axis=-1)
    np.testing.assert_allclose(found, doubled(x, head.get_layer("segment_predict")), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("heads", [BOTH, ("segment",)])
@pytest.mark.parametrize("size", [(64, 64), (100, 132), (33, 65)])
def test_counts_are_those_of_the_built_model(heads, size):
    spec = with_size(with_heads(tiny_detector(), heads), size)
    model = build_spec(spec)
    counted = count(spec)
    assert counted.trainable == sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert counted.total == model.count_params()
    assert model.output["mask_logits"].shape == (None, *mask_size(size), 11)


def test_macs_are_every_input_pixel_times_the_kernel():
    """Levels of 8, 4 and 2 pixels a side, 16 channels: 16 to 16, then twice 32, to 11 classes."""
    extra = count(three_levels()).macs - count(tiny_detector()).macs
    assert extra == 9 * (2 * 2 * 16 * 16 + 4 * 4 * 32 * 16 + 8 * 8 * 32 * 11)


@pytest.mark.parametrize(("name", "size"), [("d0", (128, 128)), ("lite0", (80, 80))])
def test_zoo_detectors_take_the_head_at_their_own_sizes(name, size):
    """Lite0's 320 pixels make maps of 5 and 3, at which the reference code fails."""
    spec = with_heads(effkeras.spec(f"efficientdet-{name}"), BOTH)
    assert mask_size(spec.input.size) == size
    assert {key for key in layer_channels(spec) if key.startswith("segment_")} == {
        *(f"segment_p{level}_{kind}" for level in (6, 5, 4, 3) for kind in ("conv", "bn")),
        "segment_predict",
    }
    assert layer_channels(spec)["segment_predict"] == 91


def test_a_detector_without_the_head_is_as_before():
    spec = tiny_detector()
    assert "heads" not in spec.to_toml()
    assert "segment" not in spec.to_toml()
    assert build_spec(spec).output.keys() == {"class_logits", "box_deltas"}
    assert not [name for name in layer_channels(spec) if name.startswith("segment")]


def test_masks_stay_float32_in_mixed_precision():
    model = build_spec(three_levels(), dtype="mixed_bfloat16")
    assert model.get_layer("segment_predict").compute_dtype == "bfloat16"
    assert {name: value.dtype for name, value in model.output.items()} == dict.fromkeys(
        ("class_logits", "box_deltas", "mask_logits"), "float32"
    )


def test_own_mask_classes_set_the_width():
    own = three_levels().replace(segment=SegmentSpec(classes=3))
    assert build_spec(own).output["mask_logits"].shape[-1] == 3
