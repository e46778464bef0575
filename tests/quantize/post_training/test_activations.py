"""What layers put out, as XNNPACK computes it, is what the plain kernels compute, however it is divided."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support.tiny_models import keeping_all, parts, quantized, random_images

from effkeras.litert.flatbuffer import TensorInfo
from quantize.post_training.activations import Observer, bytes_of, layer_errors, observe, parts_of, tensors_of

LITE = "efficientdet-lite0"


@pytest.mark.parametrize("name", [LITE, "efficientdet-d0", "efficientnet-b0"])
def test_every_activation_is_that_of_the_plain_kernels(name):
    flatbuffer = parts(name, "float32").flatbuffer
    pixels = random_images(1)
    interpreter = keeping_all(flatbuffer)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    places = {tensor.name: tensor.index for tensor in tensors_of(flatbuffer)}
    seen = {one.name: one for one in observe(flatbuffer, [pixels])}
    assert list(seen) == list(places)
    assert len(seen) > 100
    for name, one in seen.items():
        wanted = interpreter.get_tensor(places[name])
        np.testing.assert_allclose(one.values, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
        assert (one.low, one.high) == (one.values.min(), one.values.max())


def test_quantized_values_are_read_as_what_they_stand_for():
    """Kernels round some values to the code next to the one that others take, and later layers more."""
    flatbuffer = quantized(LITE, "int8", "int8").flatbuffer
    pixels = random_images(1)
    real = (pixels - 127) / 128  # the normalisation is part of the input's scale
    observer = Observer(flatbuffer, tensors_of(flatbuffer))
    observer.show(real)
    interpreter = keeping_all(flatbuffer)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], (pixels - 128).astype(np.int8))
    interpreter.invoke()
    details = {one["index"]: one for one in interpreter.get_tensor_details()}
    np.testing.assert_array_equal(observer.read(tensors_of(flatbuffer)[0].name), real)
    for tensor in tensors_of(flatbuffer)[1:]:
        scale, zero_point = details[tensor.index]["quantization"]
        wanted = (interpreter.get_tensor(tensor.index).astype(np.float32) - zero_point) * scale
        assert (wanted - observer.read(tensor.name)).std() <= 0.2 * wanted.std()


def test_parts_show_the_same(capsys):
    flatbuffer = parts(LITE, "float32").flatbuffer
    shown = random_images(2)[:, None]
    whole = list(observe(flatbuffer, shown))
    assert "parts" not in capsys.readouterr().err
    size = sum(map(bytes_of, tensors_of(flatbuffer)))
    divided = list(observe(flatbuffer, shown, at_once=size // 3))
    assert "read in 4 parts" in capsys.readouterr().err
    assert [one.name for one in divided] != [one.name for one in whole]
    for name in {one.name for one in whole}:
        ours, wanted = ([one for one in found if one.name == name] for found in (divided, whole))
        assert len(ours) == len(wanted) == 2
        for one, other in zip(ours, wanted, strict=True):
            np.testing.assert_array_equal(one.values, other.values)


def test_only_what_is_asked_for_is_looked_at():
    flatbuffer = parts(LITE, "float32").flatbuffer
    names = {tensor.name for tensor in tensors_of(flatbuffer)[3:9:2]}
    assert {one.name for one in observe(flatbuffer, random_images(1)[None], names)} == names


def test_errors_of_layers_are_the_same_in_parts():
    exact = parts(LITE, "float32").flatbuffer
    coarse = quantized(LITE, "int8").flatbuffer
    size = sum(map(bytes_of, tensors_of(exact)))
    whole, divided = (
        layer_errors(exact, coarse, random_images(2)[:, None], at_once) for at_once in (size, size // 4)
    )
    assert divided == whole
    assert sum(one is not None and one > 0 for one in whole) > 100


@given(st.lists(st.integers(1, 30)), st.integers(4, 100))
def test_parts_are_as_large_as_they_may_be(sizes, at_once):
    tensors = [TensorInfo(index, str(index), "float32", False, (size,)) for index, size in enumerate(sizes)]
    found = list(parts_of(tensors, at_once))
    assert [one for part in found for one in part] == tensors
    for part in found:
        assert len(part) == 1 or sum(map(bytes_of, part)) <= at_once
    for part, after in itertools.pairwise(found):
        assert sum(map(bytes_of, [*part, after[0]])) > at_once
