from __future__ import annotations

import gzip

import numpy as np
import pytest
from support.qat_models import small
from support.small_nets import nested, plain, two_heads

from effkeras.graph.keras_counting import count_layers
from quantize.magnitude.sparsity import sparsity_of, stored_sizes
from quantize.specs import QatSpec


def test_zeros_are_counted_by_layer_and_in_all():
    model = plain()
    kernel = np.ones((3, 3, 3, 8), np.float32)
    kernel[..., :2] = 0
    model.get_layer("first").kernel.assign(kernel)
    found = sparsity_of(model)
    first = found.kernel("first")
    assert (first.kind, first.weights, first.zeros, first.share) == ("Conv2D", 216, 54, 0.25)
    biases = 8 + 16 + 24 + 3  # which start as zeros
    assert (found.weights, found.zeros) == (model.count_params(), 54 + biases)
    assert found.share == pytest.approx((54 + biases) / model.count_params())


def test_patterns_are_checked_by_layer():
    model = plain()
    kernel = np.ones((1, 1, 8, 16), np.float32)
    kernel[:, :, ::2] = 0
    model.get_layer("second").kernel.assign(kernel)
    found = {one.layer: one.follows for one in sparsity_of(model, "2:4").kernels}
    assert found == {"first": False, "second": True, "hidden": False, "scores": False}
    assert sparsity_of(model, "1x4").kernel("second").follows
    assert not sparsity_of(model, "2x1").kernel("second").follows


def test_nested_models_are_looked_into():
    assert [kernel.layer for kernel in sparsity_of(nested()).kernels] == [
        "features_first",
        "features_second",
        "head_scores",
    ]


def test_sizes_are_those_of_the_weights():
    model = plain()
    sizes = stored_sizes(model)
    content = b"".join(np.asarray(weight).tobytes() for weight in model.weights)
    assert sizes["bytes"] == len(content) == 4 * model.count_params()
    assert sizes["gzipped_bytes"] == pytest.approx(len(gzip.compress(content, 6)), abs=64)


def test_a_separable_convolution_has_two_kernels():
    found = sparsity_of(two_heads())
    shapes = [(one.name, one.weights) for one in found.kernels if one.layer == "separable"]
    assert shapes == [("depthwise_kernel", 9 * 16), ("pointwise_kernel", 16 * 12)]


def test_what_only_fake_quantization_has_is_not_counted():
    """Ranges, scales, masks and assignments to clusters; this network has no normalisation to fold."""
    model = plain()
    values = np.ones((3, 3, 3, 8), np.float32)
    values[..., ::2] = 0
    model.get_layer("first").kernel.assign(values)
    for spec in (QatSpec(keep_zeros=True), QatSpec(keep_clusters=True)):
        prepared = small(spec, model).model
        assert prepared.count_params() > model.count_params()
        assert count_layers(prepared).total == count_layers(model).total == model.count_params()
        found, before = sparsity_of(prepared), sparsity_of(model)
        assert (found.weights, found.zeros) == (before.weights, before.zeros)
        assert {one.layer: one.zeros for one in found.kernels} == {
            one.layer: one.zeros for one in before.kernels
        }
