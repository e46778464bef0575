"""How pixels become the numbers that a foreign file takes."""

from __future__ import annotations

import numpy as np
import pytest

from effkeras import EffkerasError
from effkeras.litert.flatbuffer import IOTensor
from effkeras.litert.foreign.options import NOTHING, ForeignOptions
from effkeras.litert.foreign.pixels import pixel_input
from effkeras.litert.metadata.records import Content, Image, Metadata, Normalization, TensorMetadata

PIXELS = np.array([0, 1, 128, 254, 255], np.float32)[None, :, None, None].repeat(3, axis=-1)
FLOAT = IOTensor("image", 0, "float32", (1, 5, 1, 3))


def metadata(*units: Normalization, size: tuple[int, int] | None = None) -> Metadata:
    return Metadata(
        "theirs", inputs=(TensorMetadata("image", content=Content(Image(size=size)), units=units),)
    )


def taken(tensor: IOTensor, found: Metadata | None, options: ForeignOptions) -> list[float]:
    codes = pixel_input(tensor, found, options)(PIXELS)
    assert codes.dtype == tensor.dtype
    return codes[0, :, 0, 0].tolist()


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "codes"),
    [
        ("uint8", 1 / 128, 128, [0, 1, 128, 254, 255]),
        ("uint8", None, None, [0, 1, 128, 254, 255]),
        ("int8", 1 / 255, -128, [-128, -127, 0, 126, 127]),
    ],
)
def test_eight_bits_are_the_pixel_whatever_the_metadata_say(dtype, scale, zero_point, codes):
    tensor = IOTensor("image", 0, dtype, (1, 5, 1, 3), scale, zero_point)
    assert taken(tensor, None, NOTHING) == codes
    assert taken(tensor, metadata(Normalization((127.5,), (127.5,))), NOTHING) == codes


def test_eight_bits_are_quantized_where_a_user_says_what_they_mean():
    tensor = IOTensor("image", 0, "int8", (1, 5, 1, 3), 1 / 64, 0)
    assert taken(tensor, None, ForeignOptions(mean=(128,), std=(128,))) == [-64, -64, 0, 63, 64]


def test_floats_are_normalised_as_the_metadata_or_a_user_say():
    half = metadata(Normalization((128.0,), (128.0,)))
    np.testing.assert_allclose(taken(FLOAT, half, NOTHING), [-1, -0.992, 0, 0.984, 0.992], atol=1e-3)
    stated = ForeignOptions(mean=(0, 1, 2), std=(255, 1, 1))
    np.testing.assert_allclose(taken(FLOAT, half, stated), PIXELS[0, :, 0, 0] / 255, rtol=1e-6)


def test_a_size_that_is_open_comes_from_the_metadata():
    tensor = IOTensor("image", 0, "uint8", (1, 1, 1, 3))
    assert pixel_input(tensor, metadata(size=(96, 128)), NOTHING).size == (96, 128)


@pytest.mark.parametrize(
    ("tensor", "options", "message"),
    [
        (FLOAT, NOTHING, r"give --mean and --std: 0 and 1 for"),
        (FLOAT, ForeignOptions(mean=(0,)), "--mean and --std go together"),
        (FLOAT, ForeignOptions(mean=(0,), std=(0,)), r"std \[0\]"),
        (IOTensor("image", 0, "int32", (1, 8, 8, 3)), NOTHING, "takes int32"),
        (IOTensor("image", 0, "uint8", (1, 8, 8, 1)), NOTHING, r"takes \[1, 8, 8, 1\]"),
        (IOTensor("image", 0, "uint8", (1, 1, 1, 3)), NOTHING, "images of any size"),
    ],
)
def test_what_is_unknown_is_refused(tensor, options, message):
    with pytest.raises(EffkerasError, match=message):
        pixel_input(tensor, None, options)
