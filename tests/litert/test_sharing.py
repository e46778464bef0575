"""Shared constants make a file smaller and change nothing that it computes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from support.tiny_models import parts, random_images

from effkeras.litert.flatbuffer import operators
from effkeras.litert.rewriting import share_constants
from effkeras.litert.runner import make_interpreter
from quantize.formats import find
from quantize.post_training.backends import Rules, quantize_with_ai_edge
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import quantize_pixels, ranges_of


@pytest.fixture(scope="module")
def unshared() -> bytes:
    """A detector whose heads have batch norms of their own for every level, as the quantizer makes it."""
    given, options = parts("efficientdet-lite0", "float32"), PtqOptions(find("int8"))
    ranges = ranges_of(given, options, random_images(2)[:, None])
    return quantize_with_ai_edge(given.flatbuffer, ranges, Rules(options.format, options.io))


def tree(flatbuffer: bytes):
    return flatbuffer_utils.read_model_from_bytearray(flatbuffer)


def outputs(flatbuffer: bytes, xnnpack: bool) -> dict[str, np.ndarray]:
    run = make_interpreter(flatbuffer, xnnpack=xnnpack).get_signature_runner()
    return run(image=random_images(1))


def kernels(flatbuffer: bytes, shape: tuple[int, ...]) -> Counter[int]:
    """How many int8 tensors of a shape use each buffer."""
    found = (tensor for tensor in tree(flatbuffer).subgraphs[0].tensors if tensor.type == 9)
    return Counter(tensor.buffer for tensor in found if tuple(tensor.shape) == shape)


@pytest.mark.parametrize("xnnpack", [True, False])
def test_outputs_stay_the_same_to_the_bit(unshared, xnnpack):
    before, after = (outputs(one, xnnpack) for one in (unshared, share_constants(unshared)))
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_kernels_of_the_heads_are_stored_once(unshared):
    shape = (24, 1, 1, 24)
    before, after = kernels(unshared, shape), kernels(share_constants(unshared), shape)
    levels, tied = 5, [uses for uses in after.values() if uses == 5]
    assert before.total() == after.total()
    assert len(before) - len(after) == len(tied) * (levels - 1) > 0


def test_no_constant_is_there_twice_and_none_unused(unshared):
    shared = tree(share_constants(unshared))
    data = [bytes(buffer.data) for buffer in shared.buffers if buffer.data is not None]
    assert len(set(data)) == len(data)
    used = {tensor.buffer for tensor in shared.subgraphs[0].tensors}
    assert used | {0} | {entry.buffer for entry in shared.metadata or []} == set(range(len(shared.buffers)))


def test_zero_points_are_stored_once(unshared):
    shared = share_constants(unshared)
    assert operators(shared) == operators(unshared)
    quantized = [tensor.quantization for tensor in tree(shared).subgraphs[0].tensors]
    points = [tuple(one.zeroPoint) for one in quantized if one is not None and one.zeroPoint is not None]
    again = sum(8 * len(one) for one in points) - sum(8 * len(one) for one in set(points))
    apart = flatbuffer_utils.convert_object_to_bytearray(tree(shared))  # stores those of every tensor
    assert again > 10_000
    assert len(apart) - len(shared) >= again


def test_sharing_again_changes_nothing(unshared):
    shared = share_constants(unshared)
    assert share_constants(shared) == shared


def test_every_recipe_with_8_bit_weights_shares():
    given, options = parts("efficientdet-lite0", "float32"), PtqOptions(find("dynamic"))
    made = quantize_pixels(given, options, ()).flatbuffer
    assert len(share_constants(made)) == len(made)
