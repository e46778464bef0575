"""The input of a foreign file: its size, and how pixels become its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from effkeras.litert.flatbuffer import IOTensor
from effkeras.litert.foreign.options import ForeignOptions, Numbers
from effkeras.litert.metadata.records import Image, Metadata, Normalization
from effkeras.litert.runner import quantized_pixels
from effkeras.support.errors import EffkerasError

Rgb = tuple[float, float, float]
_BYTES = ("uint8", "int8")
_EXAMPLES = (
    "0 and 1 for pixels 0..255, 0 and 255 for 0..1, 127.5 and 127.5 for -1..1, or three numbers each, "
    "such as 123.7,116.3,103.5"
)


@dataclass(frozen=True, slots=True)
class PixelInput:
    """An image input (1, height, width, 3).

    Pixels 0..255 become `(pixels - mean) / std`. An input of 8 bits takes the pixel itself (int8: minus 128),
    since its scale and zero point say what that means, unless `is_stated`: then the quotient is quantized.
    """

    size: tuple[int, int]
    dtype: str
    mean: Rgb
    std: Rgb
    is_stated: bool
    scale: float = 1.0
    zero_point: int = 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels, float32 (1, H, W, 3), in the input's own number format."""
        if self.dtype != "float32" and not self.is_stated:
            return quantized_pixels(pixels, np.dtype(self.dtype).type)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        values = (np.asarray(pixels, np.float32) - mean) / std
        if self.dtype == "float32":
            return values
        limits = np.iinfo(self.dtype)
        codes = np.rint(values / np.float32(self.scale)) + self.zero_point
        return np.clip(codes, limits.min, limits.max).astype(self.dtype)


def pixel_input(tensor: IOTensor, metadata: Metadata | None, options: ForeignOptions) -> PixelInput:
    """The meaning of an input.

    Args:
        tensor: the input.
        metadata: the file's TFLite Metadata.
        options: what the user says, which counts more.

    Raises:
        EffkerasError: it takes no RGB image of one size, or its normalisation is unknown.
    """
    note = metadata.inputs[0] if metadata is not None and metadata.inputs else None
    size = _size(tensor, note.content.properties if note is not None and note.content else None)
    is_stated = _is_stated(options)
    if tensor.dtype not in ("float32", *_BYTES):
        raise EffkerasError(f"it takes {tensor.dtype}; known are images in float32, uint8 and int8")
    if tensor.dtype in _BYTES and not is_stated:
        scale = tensor.scale if tensor.scale and math.isfinite(tensor.scale) else 1.0
        black = float((tensor.zero_point or 0) - np.iinfo(tensor.dtype).min)
        return PixelInput(size, tensor.dtype, (black,) * 3, (1 / scale,) * 3, False)
    mean, std = options.mean, options.std
    if mean is None or std is None:
        units = () if note is None else note.units
        found = next((one for one in units if isinstance(one, Normalization)), None)
        if found is None:
            raise EffkerasError(
                "it takes float32 images, and no metadata say how pixels are normalised; "
                f"give --mean and --std: {_EXAMPLES}"
            )
        mean, std = found.mean, found.std
    made = _rgb(mean, "mean"), _rgb(std, "std")
    return PixelInput(size, tensor.dtype, *made, is_stated, tensor.scale or 1.0, tensor.zero_point or 0)


def _is_stated(options: ForeignOptions) -> bool:
    if (options.mean is None) != (options.std is None):
        raise EffkerasError(f"--mean and --std go together: {_EXAMPLES}")
    return options.mean is not None


def _rgb(values: Numbers, name: str) -> Rgb:
    whole = tuple(values) * 3 if len(values) == 1 else tuple(values)
    good = len(whole) == 3 and all(map(math.isfinite, whole)) and (name == "mean" or min(whole) > 0)
    if not good:
        raise EffkerasError(
            f"the {name} {list(values)} of pixels is not usable; give --mean and --std: {_EXAMPLES}"
        )
    return whole[0], whole[1], whole[2]


def _size(tensor: IOTensor, properties: object) -> tuple[int, int]:
    shape = tensor.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise EffkerasError(f"it takes {list(shape)}; known are single RGB images, [1, height, width, 3]")
    if shape[1:3] != (1, 1):
        return shape[1], shape[2]
    size = properties.size if isinstance(properties, Image) else None
    if size is None or min(size) < 1:
        raise EffkerasError("it takes images of any size, and no metadata say which; convert it with one")
    return size
