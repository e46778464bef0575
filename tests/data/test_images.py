"""Images of every kind come out as RGB; what cannot be read says so."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from effkeras.data import images
from effkeras.data.images import (
    Remark,
    decode_image,
    image_size,
    images_below,
    is_image,
    read_image,
    subfolders,
    tolerated,
)
from effkeras.support.errors import EffkerasError

COLOURS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 0], [255, 255, 255], [0, 0, 0]]], np.uint8
)


def stored(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "PA"])
def test_colours_survive(tmp_path, mode):
    image = Image.fromarray(COLOURS).convert(mode if mode != "PA" else "P")
    suffix = ".tif" if mode == "PA" else ".png"
    image = image.convert("PA") if mode == "PA" else image
    pixels = read_image(stored(tmp_path / f"a{suffix}", image))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (2, 3, 3))
    np.testing.assert_array_equal(pixels, COLOURS)
    assert pixels.flags.writeable


@pytest.mark.parametrize("mode", ["L", "1", "LA", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    grey = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("RGB").convert(mode)
    path = stored(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), grey)
    np.testing.assert_array_equal(read_image(path), [[[0] * 3, [255] * 3]])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_scaled(tmp_path, suffix):
    image = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    path = stored(tmp_path / f"a{suffix}", image)
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 1, 128, 255])


@pytest.mark.parametrize(("largest", "is_noted"), [(4095, True), (4096, False), (0, False)])
def test_twelve_of_sixteen_bits_are_noted(tmp_path, largest, is_noted):
    path = stored(tmp_path / "a.png", Image.fromarray(np.array([[0, largest]], np.uint16)))
    decoded = decode_image(path)
    assert (Remark.DARK in decoded.remarks) is is_noted
    assert decoded.pixels.max() == (largest + 128) // 257  # values keep their meaning


def test_dark_colours_of_sixteen_bits_are_noted(tmp_path):
    path = tmp_path / "a.tif"
    skimage = pytest.importorskip("tifffile")
    skimage.imwrite(path, np.full((4, 4, 3), 3000, np.uint16), photometric="rgb")
    assert decode_image(path).remarks == (Remark.DARK,)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif"])
def test_the_first_frame_is_read_and_noted(tmp_path, suffix):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    path = stored(tmp_path / f"a{suffix}", first, save_all=True, append_images=[second])
    decoded = decode_image(path)
    assert decoded.remarks == (Remark.FRAMES,)
    assert decoded.pixels[4, 4, 0] > 250
    assert not decode_image(stored(tmp_path / f"b{suffix}", first)).remarks


@pytest.mark.parametrize("suffix", sorted(images.SUFFIXES - images.HEIF_SUFFIXES))
def test_every_suffix_is_read(tmp_path, suffix):
    kinds = {".jpe": "JPEG", ".jfif": "JPEG"}
    path = stored(tmp_path / f"a{suffix}", Image.new("RGB", (16, 8), "white"), format=kinds.get(suffix))
    assert read_image(path).min() > 250
    assert image_size(path) == (8, 16)
    assert is_image(path)


def test_heif_needs_its_plug_in(tmp_path, monkeypatch):
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"")
    monkeypatch.setattr(images, "_reads_heif", lambda: False)
    assert not is_image(path)
    assert images_below(tmp_path).left_out == (
        "1 file that is no image (1 .heic; pip install pillow-heif lets .heic be read)"
    )
    for read in (read_image, image_size):
        with pytest.raises(EffkerasError, match=r"plug-in for \.HEIC files: pip install pillow-heif"):
            read(path)
    monkeypatch.setattr(images, "_reads_heif", lambda: True)
    assert is_image(path)


def test_folders_are_searched_to_the_bottom(tmp_path):
    for name in ("b.png", "a/c.JPG", "a/deep/d.gif", "a/notes.txt", ".git/e.png", "a/.hidden.png", "none"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f.bmp").touch()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    found = images_below(tmp_path / "data")
    names = [path.relative_to(tmp_path / "data").as_posix() for path in found.images]
    assert names == ["a/c.JPG", "a/deep/d.gif", "b.png", "link/f.bmp"]
    assert found.left_out == "2 files that are no images (1 .txt, 1 without suffix)"


def test_transparent_pixels_become_white(tmp_path):
    image = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8))
    np.testing.assert_array_equal(read_image(stored(tmp_path / "a.png", image))[0, :, 0], [255, 0])


def test_a_palette_may_be_transparent(tmp_path):
    image = Image.fromarray(COLOURS).convert("P")
    corner = image.getpixel((0, 0))
    pixels = read_image(stored(tmp_path / "a.png", image, transparency=corner))
    assert pixels[0, 0].tolist() == [255, 255, 255]


def test_exif_turns_the_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = stored(tmp_path / "a.png", Image.fromarray(COLOURS), exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(COLOURS, -1))


def whole(kind):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"hello", "not an image"),
        (whole("JPEG")[:900], "cut short or damaged"),
        (whole("PNG")[:900], "cut short or damaged"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(EffkerasError, match=message) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "take it out of the data set" in str(error.value)


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "a.jpg", tmp_path):
        with pytest.raises(EffkerasError, match="no such image file"):
            read_image(path)


@pytest.mark.parametrize("limit", [5, 2])
def test_bombs_are_refused(tmp_path, monkeypatch, limit):
    path = stored(tmp_path / "a.png", Image.fromarray(COLOURS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(EffkerasError, match="too large to decode safely"):
        read_image(path)


def test_no_other_program_reads_an_image(tmp_path):
    """Pillow hands EPS to Ghostscript, which runs what the file says, whatever the file is called."""
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nquit\n%%EOF\n")
    for read in (image_size, decode_image):
        with pytest.raises(EffkerasError, match="not an image that Pillow can read"):
            read(path)


def test_floating_point_is_refused(tmp_path):
    path = stored(tmp_path / "a.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(EffkerasError, match="floating-point"):
        read_image(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "BMP"]), st.data())
def test_damaged_bytes_raise_nothing_else(tmp_path, kind, data):
    content = bytearray(whole(kind))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6)
    ):
        content[position] = value
    path = tmp_path / "a"
    path.write_bytes(content)
    with contextlib.suppress(EffkerasError):
        assert read_image(path).shape[2] == 3


@pytest.mark.parametrize(
    ("bad", "total", "fine"), [(0, 0, True), (1, 99, False), (1, 100, True), (2, 199, False), (2, 200, True)]
)
def test_one_in_a_hundred_is_tolerated(bad, total, fine):
    assert tolerated(bad, total) is fine


def test_listing_leaves_hidden_things_out(tmp_path):
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert [path.name for path in subfolders(tmp_path)] == ["a", "b"]
    assert subfolders(tmp_path / "none") == []
    assert [is_image(tmp_path / name) for name in ("a.JPG", "a.txt", ".a.png")] == [True, False, False]
