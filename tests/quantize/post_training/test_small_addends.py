"""Sums of which one addend is next to nothing stay XNNPACK's in int8."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.own_networks import outputs_of

from effkeras.litert.flatbuffer import operators
from effkeras.litert.runner import delegation, make_interpreter
from quantize import ptq
from quantize.formats import find
from quantize.post_training.corrections import widened_for_addends
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts
from quantize.post_training.ranges import scale_of

L = keras.layers


def network(small: float, *, is_read_elsewhere: bool = False, is_output: bool = False) -> keras.Model:
    """Two branches into a sum, one of them so many times the other; then a layer more."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 4))
    large, faint = (L.Conv2D(4, 1, name=name)(pixels) for name in ("large", "faint"))
    x = L.Conv2D(5, 3, name="last")(L.ReLU()(L.Add()([large, faint])))
    if is_read_elsewhere:
        x = L.Concatenate()([x, L.Conv2D(2, 3, name="reader")(faint)])
    model = keras.Model(pixels, {"x": x, "faint": faint} if is_output else x)
    layer = model.get_layer("faint")
    layer.kernel.assign(small * layer.kernel)
    return model


def shown() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 4)).astype(np.float32)


@pytest.mark.parametrize("small", [1e-2, 1e-4, 1e-7, 0.0])
def test_the_network_stays_one_partition_and_right(small):
    model = network(small)
    flatbuffer = ptq(model, "int8", shown()).flatbuffer
    found = delegation(make_interpreter(flatbuffer), flatbuffer)
    assert (found.delegated_ops, found.partitions) == (found.total_ops, 1)
    wanted = outputs_of_model(model, shown())
    np.testing.assert_allclose(outputs_of(flatbuffer, shown()), wanted, atol=0.03 * np.ptp(wanted))


def test_a_sum_of_faint_branches_that_is_faint_itself_stays_too():
    """The inner sum's range grows with the outer one's, and its addend's has to follow."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 4))
    large, faint, fainter = (L.Conv2D(4, 1, name=name)(pixels) for name in ("large", "faint", "fainter"))
    x = L.Conv2D(5, 3)(L.Add()([large, L.Add(name="inner")([faint, fainter])]))
    model = keras.Model(pixels, x)
    for name, small in (("faint", 1e-5), ("fainter", 3e-8)):
        layer = model.get_layer(name)
        layer.kernel.assign(small * layer.kernel)
    flatbuffer = ptq(model, "int8", shown()).flatbuffer
    found = delegation(make_interpreter(flatbuffer), flatbuffer)
    assert (found.delegated_ops, found.partitions) == (found.total_ops, 1)


def ranges_of(model: keras.Model, faint: float) -> tuple[bytes, dict, str]:
    """The float file, ranges of -1..1 but for the faint branch's, and the tensor of that."""
    flatbuffer = float_parts(model, PtqOptions(find("int8"))).flatbuffer
    graph = operators(flatbuffer)
    sum_ = next(op for op in graph if op.name == "ADD")
    name = next(one.name for one in sum_.inputs if "faint" in one.name)
    tensors = {one.name for op in graph for one in op.outputs}
    wide = {"min": np.float32([-1]), "max": np.float32([1])}
    narrow = {"min": np.float32([-faint]), "max": np.float32([faint / 2])}
    return flatbuffer, {one: narrow if one == name else wide for one in tensors}, name


def test_a_range_is_just_wide_enough_and_the_others_stay():
    flatbuffer, ranges, faint = ranges_of(network(1e-4), 1e-5)
    found = widened_for_addends(flatbuffer, ranges)
    assert {name for name in ranges if found[name] is not ranges[name]} == {faint}
    share = scale_of(found[faint]) / scale_of(ranges[next(one for one in ranges if one != faint)])
    assert 1 / 1024 < share < 1.02 / 1024
    assert found[faint]["min"] == pytest.approx(-2 * found[faint]["max"])


@pytest.mark.parametrize(
    ("small", "faint", "how"),
    [(1.0, 0.01, {}), (1e-4, 1e-5, {"is_read_elsewhere": True}), (1e-4, 1e-5, {"is_output": True})],
    ids=["large enough", "read elsewhere", "an output"],
)
def test_others_keep_their_range(small, faint, how):
    flatbuffer, ranges, _ = ranges_of(network(small, **how), faint)
    assert widened_for_addends(flatbuffer, ranges) == ranges
