"""Image files decoded in the graph are the pixels that our own reader sees, bit for bit."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from effkeras.data.images import read_image
from export.savedmodel.image_files import decode_image

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
DECODE = tf.function(decode_image, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)


def same(file: Path) -> None:
    np.testing.assert_array_equal(DECODE(file.read_bytes()).numpy(), read_image(file))


def image(mode: str = "RGB") -> Image.Image:
    patches = np.random.default_rng(0).integers(0, 256, (6, 9, 4), np.uint8)
    return Image.fromarray(np.kron(patches, np.ones((5, 7, 1), np.uint8)), "RGBA").convert(mode)


@pytest.mark.parametrize(
    "name",
    [
        "astronaut.png",
        "camera.png",
        "chelsea.png",
        "horse.png",
        "logo.png",
        "rocket.jpg",
        "hubble_deep_field.jpg",
    ],
)
def test_photographs(name):
    same(PHOTOGRAPHS / name)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(9))
def test_images_are_turned_as_exif_says(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a maker, so that orientation is not the first entry"
    image().save(tmp_path / f"turned.{suffix}", exif=exif)
    same(tmp_path / f"turned.{suffix}")


def test_exif_in_the_other_byte_order(tmp_path):
    exif = Image.Exif()
    exif.endian = "<"
    exif[0x0112] = 6
    image().save(tmp_path / "little.jpg", exif=exif)
    assert b"Exif\0\0II" in (tmp_path / "little.jpg").read_bytes()
    same(tmp_path / "little.jpg")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_kinds(mode, tmp_path):
    image(mode).save(tmp_path / "kind.png")
    same(tmp_path / "kind.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("clear", [None, 1, bytes([200, 0])])
def test_palettes(bits, clear, tmp_path):
    drawn = image().quantize(2**bits if bits < 8 else 200)
    more = {} if clear is None else {"transparency": clear}
    drawn.save(tmp_path / "palette.png", bits=bits, **more)
    same(tmp_path / "palette.png")


def test_a_colour_that_stands_for_clear(tmp_path):
    image().save(tmp_path / "clear.png", transparency=image().getpixel((0, 0)))
    same(tmp_path / "clear.png")


def test_16_bit_greys_are_scaled(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (40, 50)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    same(tmp_path / "deep.png")


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_16_bit_colours(colour, tmp_path):
    """Pillow reads them and does not write them."""
    channels = {2: 3, 4: 2, 6: 4}[colour]
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, channels)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    size = np.array([30, 20], ">u4").tobytes()
    chunks = [(b"IHDR", size + bytes([16, colour, 0, 0, 0])), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))
    same(tmp_path / "deep.png")


def chunk(kind: bytes, content: bytes) -> bytes:
    length, check = len(content), zlib.crc32(kind + content)
    return length.to_bytes(4, "big") + kind + content + check.to_bytes(4, "big")


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_jpeg_kinds(options, tmp_path):
    image().save(tmp_path / "kind.jpg", **options)
    same(tmp_path / "kind.jpg")


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_colours(mode, tmp_path):
    image(mode).save(tmp_path / "colour.jpg")
    same(tmp_path / "colour.jpg")


def test_a_large_block_before_exif_is_stepped_over(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    image().save(tmp_path / "block.jpg", exif=exif)
    content = (tmp_path / "block.jpg").read_bytes()
    block = b"\xff\xe2" + (60_000).to_bytes(2, "big") + b"\xff" * 59_998
    (tmp_path / "block.jpg").write_bytes(content[:2] + block + content[2:])
    same(tmp_path / "block.jpg")


def test_cut_and_foreign_bytes_are_refused(tmp_path):
    image().save(tmp_path / "whole.jpg")
    image().save(tmp_path / "whole.png")
    jpeg, png = (tmp_path / "whole.jpg").read_bytes(), (tmp_path / "whole.png").read_bytes()
    for content in (b"", b"hello", jpeg[:3], jpeg[:300], png[:20], png[:100], b"\xff\xd8\xff" + b"\xff" * 50):
        with pytest.raises(tf.errors.InvalidArgumentError):
            DECODE(content)


def encoded(suffix: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image().save(stream, suffix, exif=exif)
    return stream.getvalue()


@given(st.data())
def test_damaged_headers_neither_hang_nor_read_outside(data):
    """Whatever the header says, the answer is an image or an error."""
    suffix = data.draw(st.sampled_from(["jpeg", "png"]))
    content = bytearray(encoded(suffix))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(st.integers(0, 255))
    try:
        found = DECODE(bytes(content)).numpy()
    except tf.errors.InvalidArgumentError:
        return
    assert found.ndim == 3
    assert found.dtype == np.uint8
