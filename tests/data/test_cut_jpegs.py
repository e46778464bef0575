"""JPEG files without their last bytes are read; those that lost most of their data are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from effkeras.data.cut_jpegs import decode_cut_jpeg
from effkeras.data.images import decode_image, read_image
from effkeras.data.reading import ImageReader
from effkeras.support import console
from effkeras.support.errors import EffkerasError


def photo(**options):
    """A JPEG of 96 x 128 pixels with detail everywhere."""
    y, x = np.mgrid[:96, :128]
    pixels = 128 + 60 * np.sin(x / 3) + 50 * np.cos(y / 4) + np.random.default_rng(0).normal(0, 9, (96, 128))
    buffer = io.BytesIO()
    rgb = np.clip(np.stack([pixels, pixels[::-1], pixels[:, ::-1]], -1), 0, 255).astype(np.uint8)
    Image.fromarray(rgb).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("share", "is_read"), [(0.999, True), (0.9, True), (0.15, False), (0.02, False)])
def test_a_little_may_be_lost(tmp_path, progressive, share, is_read):
    content = photo(progressive=progressive)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    whole = read_image(path).astype(int)
    path.write_bytes(content[: int(len(content) * share)])
    if not is_read:
        with pytest.raises(EffkerasError, match=r"a\.jpg: .*(cut short|not an image)"):
            read_image(path)
        return
    half = len(whole) // 2
    tolerance = 4 if progressive else 0
    assert np.abs(read_image(path).astype(int)[:half] - whole[:half]).mean() <= tolerance


@pytest.mark.parametrize("progressive", [False, True])
def test_without_the_end_marker_every_pixel_is_there(progressive):
    content = photo(progressive=progressive)
    image = decode_cut_jpeg(content[:-2])
    assert image is not None
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(content))))


def test_a_thumbnail_in_the_header_is_no_scan():
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 20
    content = photo(progressive=True, exif=exif.tobytes() + photo()[:900])
    assert decode_cut_jpeg(content[:-2]) is not None
    assert decode_cut_jpeg(content[: len(content) // 4]) is None


def test_an_image_of_one_colour_takes_few_bytes():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "JPEG")
    image = decode_cut_jpeg(buffer.getvalue()[:-2])
    assert image is not None
    assert np.asarray(image).min() == 255


def test_they_are_counted_once(tmp_path, capsys):
    console._noted.clear()
    content = photo()
    reader = ImageReader()
    for name, data in (("a.jpg", content[:-9]), ("b.jpg", content), ("c.jpg", content[:-50])):
        (tmp_path / name).write_bytes(data)
        reader.read(tmp_path / name)
        reader.read(tmp_path / name)
    reader.note_remarks(3)
    reader.note_remarks(3)
    said = capsys.readouterr().err
    assert said.count("2 of 3 images end early") == 1
    assert f"(the first: {tmp_path / 'a.jpg'})" in said
    assert not decode_image(tmp_path / "b.jpg").remarks
