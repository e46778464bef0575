"""What is computed in tiles is computed as before; only large maps are."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.handmade import Op, Tensor, flatbuffer
from support.tiny_models import CLASSIFIERS, DETECTORS, quantized, random_images

from effkeras import EffkerasError
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.flatbuffer import Operator, TensorInfo, operators
from effkeras.litert.nodes import nodes
from effkeras.litert.runner import LiteRTModel, make_interpreter
from effkeras.litert.tiling import has_row_tiles, tile_rows

L = keras.layers
EVERYTHING = 1  # as if the cache held one byte


def names(content: bytes) -> Counter[str]:
    return Counter(op.name for op in operators(content))


def same_results(before: bytes, after: bytes, pixels: np.ndarray, xnnpack: bool = True) -> None:
    """`pixels` are (count, H, W, C)."""
    one, other = (make_interpreter(c, xnnpack=xnnpack).get_signature_runner() for c in (before, after))
    for image in pixels[:, None]:
        wanted, got = one(image=image), other(image=image)
        assert all(values.std() > 0 for values in wanted.values())
        for output, values in wanted.items():
            np.testing.assert_array_equal(got[output], values)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (1, *shape)).astype(np.float32)


@pytest.mark.parametrize("recipe", ["float32", "int8"])
@pytest.mark.parametrize("name", [*DETECTORS, *CLASSIFIERS])
def test_networks_compute_the_same_to_the_bit_in_one_partition(name, recipe):
    before = quantized(name, recipe).flatbuffer
    after = tile_rows(before, cache=4096)
    assert names(after)["SLICE"] > 3
    same_results(before, after, random_images(2))
    taken = LiteRTModel.of_bytes(after).delegated()
    assert (taken.delegated_ops, taken.partitions) == (taken.total_ops, 1)


@pytest.mark.parametrize("name", ["efficientdet-d0", "efficientnet-lite0"])
def test_plain_kernels_compute_the_same(name):
    before = quantized(name, "int8").flatbuffer
    same_results(before, tile_rows(before, cache=4096), random_images(1), xnnpack=False)


def test_files_with_tiles_are_recognised():
    before = quantized("efficientdet-d0", "float32").flatbuffer
    assert not has_row_tiles(operators(before))
    assert has_row_tiles(operators(tile_rows(before, cache=4096)))


@pytest.mark.parametrize(
    ("name", "is_tile"),
    [("net/act/strip0_12", True), ("net/strip_act", False), ("net/strip0_12/act", False)],
)
def test_tiles_of_older_files_are_named_strips(name, is_tile):
    tensor = TensorInfo(3, name, "int8", is_constant=False)
    assert has_row_tiles([Operator(0, "SLICE", (), (tensor,))]) == is_tile


def test_maps_that_fit_the_cache_leave_the_file_alone():
    before = quantized("efficientdet-d0", "float32").flatbuffer
    assert tile_rows(before) is before


def block(x, stride: int = 1):
    """An inverted bottleneck whose expansion is the largest map by far."""
    y = L.Activation("silu")(L.Conv2D(96, 1)(x))
    y = L.Activation("silu")(L.DepthwiseConv2D(3, stride, padding="same")(y))
    return L.Conv2D(x.shape[-1], 1)(y)


def test_a_large_expansion_is_computed_in_quarters():
    pixels = keras.Input((160, 160, 8))
    before = to_flatbuffer(keras.Model(pixels, block(pixels, 2)))
    after = tile_rows(before)
    assert names(after)["DEPTHWISE_CONV_2D"] == 4 * names(before)["DEPTHWISE_CONV_2D"]
    assert names(after)["CONCATENATION"] == 1
    largest = max(np.prod(node.outputs[0].shape) for node in nodes(after))
    assert largest <= 0.26 * 160 * 160 * 96
    same_results(before, after, noise(160, 160, 8))


def test_a_shortcut_around_a_block_is_cut_too():
    """The block's windows need rows of the input that the sum does not."""
    pixels = keras.Input((32, 20, 8))
    x = L.Conv2D(8, 3, padding="same", activation="relu")(pixels)
    before = to_flatbuffer(keras.Model(pixels, L.Conv2D(2, 3, strides=2)(L.Add()([x, block(x)]))))
    after = tile_rows(before, EVERYTHING)
    assert names(after)["ADD"] == 4 * names(before)["ADD"]
    same_results(before, after, noise(32, 20, 8))


def test_what_is_read_elsewhere_stays_whole():
    """A gate of squeeze-and-excitation needs the mean of all rows."""
    pixels = keras.Input((32, 32, 8))
    y = L.Activation("silu")(L.Conv2D(32, 1)(pixels))
    y = L.Activation("silu")(L.DepthwiseConv2D(3, padding="same")(y))
    gate = L.Conv2D(32, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(y))
    before = to_flatbuffer(keras.Model(pixels, L.Multiply()([y, gate])))
    after = tile_rows(before, EVERYTHING)
    assert names(after)["MEAN"] == 1
    assert names(after)["DEPTHWISE_CONV_2D"] == 4
    same_results(before, after, noise(32, 32, 8))


WINDOWS = st.tuples(
    st.sampled_from([1, 2, 3, 5, 7]),  # extent
    st.sampled_from([1, 2, 3]),  # stride
    st.sampled_from(["same", "valid"]),
    st.booleans(),  # depthwise
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(WINDOWS, min_size=1, max_size=3), st.integers(24, 48), st.integers(24, 33))
def test_any_windows(windows, high, wide):
    y = pixels = keras.Input((high, wide, 2))
    for extent, stride, padding, is_depthwise in windows:
        y = L.Conv2D(16, 1, activation="relu")(y)
        y = (
            L.DepthwiseConv2D(extent, stride, padding=padding)(y)
            if is_depthwise
            else L.Conv2D(3, extent, strides=stride, padding=padding)(y)
        )
        if min(y.shape[1:3]) < 7:
            break
    before = to_flatbuffer(keras.Model(pixels, L.Activation("tanh")(y)))
    after = tile_rows(before, EVERYTHING)
    assume(after is not before)
    same_results(before, after, noise(high, wide, 2))


def test_dilated_windows():
    pixels = keras.Input((40, 40, 2))
    y = L.DepthwiseConv2D(3, dilation_rate=3, padding="same")(L.Conv2D(16, 1, activation="relu")(pixels))
    before = to_flatbuffer(keras.Model(pixels, L.Conv2D(2, 1)(y)))
    after = tile_rows(before, EVERYTHING)
    assert names(after)["SLICE"] >= 4
    same_results(before, after, noise(40, 40, 2))


def test_a_constant_of_every_row_is_left_alone():
    source, middle, result = (Tensor((1, 8, 4, 1), "float32") for _ in range(3))
    mask = Tensor.weights(1, 8, 4, 1, dtype="float32")
    content = flatbuffer(Op("TANH", [source], [middle]), Op("MUL", [middle, mask], [result]))
    assert tile_rows(content, EVERYTHING) is content


def test_a_damaged_file_is_an_error():
    before = quantized("efficientnet-lite0", "int8").flatbuffer
    with pytest.raises(EffkerasError, match="damaged"):
        tile_rows(before[: len(before) // 2])
