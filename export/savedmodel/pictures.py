"""Picture files decoded with TensorFlow operations to the pixels that `effkeras.data.pictures` reads."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from export.savedmodel.orientation import jpeg_orientation, png_header, turned

_GREY, _GREY_ALPHA, _RGB_ALPHA = 0, 4, 6  # PNG colour types


def decode_picture(contents: Any) -> Any:
    """The picture in a file's bytes (a scalar string) as uint8 (h, w, 3), RGB, the way up that EXIF says.

    Greys and palettes become RGB, 16-bit greys are scaled to 8 bits, transparent pictures are laid on white.
    JPEG and PNG; what else `tf.io.decode_image` knows (BMP, the first picture of a GIF) is decoded by it. An
    orientation is found in EXIF only (not XMP), in a PNG only before the pixels.

    Raises tf.errors.InvalidArgumentError, when it runs, for bytes that are damaged or no picture.
    """
    picture = tf.cond(tf.io.is_jpeg(contents), lambda: _jpeg(contents), lambda: _not_jpeg(contents))
    picture.set_shape((None, None, 3))
    return picture


def _jpeg(contents: Any) -> Any:
    # Pillow's way of the inverse transform; TensorFlow's own choice may be a faster and coarser one.
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
    """Laid on white with Pillow's rounding of a division by 255 (`Image.alpha_composite`)."""
    pixels = tf.cast(tf.io.decode_png(contents, channels=4), tf.int32)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    mixed = colour * alpha + 255 * (255 - alpha) + 128
    return tf.cast((mixed + mixed // 256) // 256, tf.uint8)
