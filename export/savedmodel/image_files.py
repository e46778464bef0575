"""Decodes image files with TensorFlow operations to the same pixels as `effkeras.data.images`.

TensorFlow ignores EXIF, so phone photographs would be rotated; the orientation is read from the header here.
Layouts: JPEG (ITU-T T.81, annex B), PNG (W3C, third edition, 5.3 and 11.3), EXIF (CIPA DC-008, 4.5 and 4.6).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

UPRIGHT = 1
NOWHERE = -1
_ORIENTATION = 0x0112
_START_OF_SCAN, _APP1 = 0xDA, 0xE1
_MARGIN = 16  # zero bytes after the end, which may be read


class PngHeader(NamedTuple):
    """A PNG's bit depth and colour type, and transparency and orientation from chunks before the pixels."""

    depth: Any
    colour: Any
    has_transparency: Any
    orientation: Any


def file_bytes(contents: Any) -> Any:
    """The file as uint8 (n + margin,), so that reads just past the end of a truncated file return 0."""
    return tf.pad(tf.io.decode_raw(contents, tf.uint8), [[0, _MARGIN]])


def jpeg_orientation(contents: Any) -> Any:
    """The EXIF orientation of a JPEG, 1..8; 1 if it has none."""
    data = file_bytes(contents)

    def inside(at: Any, found: Any) -> Any:
        marker = (_byte(data, at) == 0xFF) & (_byte(data, at + 1) != _START_OF_SCAN)
        return marker & (found == NOWHERE)

    def step(at: Any, found: Any) -> tuple[Any, Any]:
        is_exif = (_byte(data, at + 1) == _APP1) & _says(data, at + 4, b"Exif\0\0")
        return at + 2 + _number(data, at + 2, 2), tf.where(is_exif, at + 10, found)

    _, found = tf.while_loop(inside, step, (_whole(2), _whole(NOWHERE)))
    return _orientation_at(data, found)


def png_header(contents: Any) -> PngHeader:
    """Reads the chunks of a PNG up to its pixels."""
    data = file_bytes(contents)

    def inside(at: Any, found: Any, clear: Any) -> Any:
        at_pixels = _says(data, at + 4, b"IDAT") | _says(data, at + 4, b"IEND")
        return ~at_pixels & (at < _length(data) - _MARGIN)

    def step(at: Any, found: Any, clear: Any) -> tuple[Any, Any, Any]:
        found = tf.where(_says(data, at + 4, b"eXIf"), at + 8, found)
        clear = clear | _says(data, at + 4, b"tRNS")
        return at + 12 + _number(data, at, 4), found, clear

    start = (_whole(8), _whole(NOWHERE), tf.constant(False))
    _, found, clear = tf.while_loop(inside, step, start)
    return PngHeader(_byte(data, 24), _byte(data, 25), clear, _orientation_at(data, found))


def turned(image: Any, orientation: Any) -> Any:
    """The image (h, w, 3), rotated and mirrored as the EXIF orientation requires."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    mirrored = tf.reduce_any(orientation == _whole([2, 3, 6, 7]))
    image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    upside_down = tf.reduce_any(orientation == _whole([3, 4, 7, 8]))
    return tf.cond(upside_down, lambda: tf.reverse(image, [0]), lambda: image)


def _orientation_at(data: Any, start: Any) -> Any:
    """The orientation in the TIFF structure at `start`; 1 if it is missing or invalid."""
    little = _byte(data, start) == ord("I")
    directory = start + _ordered(data, start + 4, 4, little)
    room = tf.maximum(_length(data) - directory, 0) // 12
    count = tf.minimum(_ordered(data, directory, 2, little), room)
    entries = directory + 2 + 12 * tf.range(count)
    stated = tf.boolean_mask(entries, _ordered(data, entries, 2, little) == _ORIENTATION)
    values = tf.concat([_ordered(data, stated + 8, 2, little), _whole([UPRIGHT])], axis=0)
    sane = (start != NOWHERE) & (values[0] >= 1) & (values[0] <= 8)
    return tf.where(sane, values[0], UPRIGHT)


def _ordered(data: Any, at: Any, size: int, little: Any) -> Any:
    """The number of `size` bytes at `at`, in the file's byte order."""
    return tf.where(little, _number(data, at, size, reverse=True), _number(data, at, size))


def _number(data: Any, at: Any, size: int, *, reverse: bool = False) -> Any:
    places = range(size) if reverse else range(size - 1, -1, -1)
    return tf.add_n([_byte(data, at + i) * 256**place for i, place in enumerate(places)])


def _says(data: Any, at: Any, text: bytes) -> Any:
    return tf.reduce_all(_byte(data, at + tf.range(len(text), dtype=tf.int64)) == _whole(list(text)))


def _byte(data: Any, at: Any) -> Any:
    """The byte at each position; positions outside the file read its zero margin."""
    at, last = tf.convert_to_tensor(at, tf.int64), _length(data) - 1
    within = (at >= 0) & (at <= last)
    return tf.cast(tf.gather(data, tf.where(within, at, last)), tf.int64)


def _length(data: Any) -> Any:
    return tf.size(data, out_type=tf.int64)


def _whole(value: Any) -> Any:
    return tf.constant(value, tf.int64)


_GREY, _GREY_ALPHA, _RGB_ALPHA = 0, 4, 6  # PNG colour types


def decode_image(contents: Any) -> Any:
    """Decodes a file's bytes (a scalar string) to uint8 (h, w, 3), RGB, in the orientation that EXIF states.

    Greyscale and palette images become RGB, 16-bit greyscale is scaled to 8 bits, and transparent images are
    composited on white. This holds for JPEG and PNG; `tf.io.decode_image` decodes its other formats (BMP, the
    first image of a GIF). The orientation is read from EXIF only (not XMP), and in a PNG only if it comes
    before the pixels.

    Raises tf.errors.InvalidArgumentError, when it runs, for bytes that are damaged or not an image.
    """
    image = tf.cond(tf.io.is_jpeg(contents), lambda: _jpeg(contents), lambda: _not_jpeg(contents))
    image.set_shape((None, None, 3))
    return image


def _jpeg(contents: Any) -> Any:
    # The inverse DCT that Pillow uses; TensorFlow's default may be a faster, less exact one.
    pixels = tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
    return turned(pixels, jpeg_orientation(contents))


def _not_jpeg(contents: Any) -> Any:
    is_png = tf.strings.substr(contents, 0, 4) == b"\x89PNG"
    return tf.cond(is_png, lambda: _png(contents), lambda: _other(contents))


def _other(contents: Any) -> Any:
    return tf.io.decode_image(contents, channels=3, expand_animations=False)


def _png(contents: Any) -> Any:
    header = png_header(contents)
    deep_grey = (header.depth == 16) & (header.colour == _GREY)
    clear = header.has_transparency | (header.colour == _GREY_ALPHA) | (header.colour == _RGB_ALPHA)
    pixels = tf.case(
        [(deep_grey, lambda: _from_16_bits(contents)), (clear, lambda: _on_white(contents))],
        default=lambda: tf.io.decode_png(contents, channels=3),
    )
    return turned(pixels, header.orientation)


def _from_16_bits(contents: Any) -> Any:
    values = tf.cast(tf.io.decode_png(contents, channels=1, dtype=tf.uint16), tf.int32)
    return tf.repeat(tf.cast((values + 128) // 257, tf.uint8), 3, axis=-1)


def _on_white(contents: Any) -> Any:
    """Composites on white; rounds the division by 255 as Pillow's `Image.alpha_composite` does."""
    pixels = tf.cast(tf.io.decode_png(contents, channels=4), tf.int32)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    mixed = colour * alpha + 255 * (255 - alpha) + 128
    return tf.cast((mixed + mixed // 256) // 256, tf.uint8)
