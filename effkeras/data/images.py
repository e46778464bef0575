"""Image files: finds them in folders, decodes them to RGB, and places them in a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from effkeras.data.preprocess import Placed, place
from effkeras.data.records import ClassificationRecord, DetectionRecord
from effkeras.definitions.definition import InputSpec
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_WAY_OUT = "replace the file, or take it out of the data set"


def read_image(path: Path) -> np.ndarray:
    """The image in `path` as uint8 (height, width, 3), RGB, oriented by its EXIF data.

    Palettes and greyscale become RGB, 16-bit greyscale is scaled to 8 bits, and transparent images get a
    white background. Raises EffkerasError when the file is missing, truncated, too large or not an image.
    """
    path = Path(path)
    if not path.is_file():
        raise EffkerasError(f"{path}: there is no such image file; correct the path or the labels")
    try:
        return _decode(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise EffkerasError(f"{path}: the image is too large to decode safely; scale it down") from error
    except EffkerasError as error:
        raise EffkerasError(f"{path}: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise EffkerasError(f"{path}: not an image that Pillow can read; {_WAY_OUT}") from error
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for damaged files
        raise EffkerasError(f"{path}: the image is cut short or damaged ({error}); {_WAY_OUT}") from error


def image_size(path: Path) -> tuple[int, int]:
    """The height and width of the image in `path` after its EXIF turn, from the file's header alone.

    Raises EffkerasError when the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except FileNotFoundError as error:
        raise EffkerasError(f"{path}: there is no such image file; correct the path or the labels") from error
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for damaged files
        raise EffkerasError(f"{path}: not an image that Pillow can read; {_WAY_OUT}") from error


class RecordReader:
    """Reads images of records into a network's input, and compares their sizes with the labels' sizes.

    A record's boxes and masks are in pixels of the size that its labels state. An image file with the same
    aspect ratio but another size was scaled after labelling: its placement then maps the labels' pixels to
    the input, and `rescaled` records it by path.
    """

    def __init__(self, spec: InputSpec):
        self._spec = spec
        self.rescaled: dict[Path, str] = {}

    def read(self, record: DetectionRecord | ClassificationRecord) -> Placed:
        """The image in the network's input, with a placement for the size that the labels state.

        Raises EffkerasError when the image is unreadable, or its aspect ratio differs from the labels'.
        """
        placed = place(read_image(record.path), self._spec)
        decoded = placed.placement.size
        if isinstance(record, ClassificationRecord) or record.size == decoded:
            return placed
        says = f"{record.path} has {sides(decoded)} pixels and its labels say {sides(record.size)}"
        if not same_shape(decoded, record.size):
            turned = same_shape(decoded[::-1], record.size)
            why = "they are for the image before its EXIF turn" if turned else "the shapes differ"
            raise EffkerasError(f"{says}: {why}, so its boxes cannot be placed; correct its labels")
        self.rescaled[record.path] = says
        return Placed(placed.content, placed.placement.stated_in(record.size))

    def note_rescaled(self, total: int) -> None:
        """Notes how many of `total` images were scaled after labelling, if any."""
        if self.rescaled:
            first = next(iter(self.rescaled.values()))
            note(f"scaled the boxes of {len(self.rescaled)} of {total} images; the first: {first}")


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (height, width) have the same aspect ratio, up to rounding to whole pixels."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(other)


def sides(size: tuple[int, int]) -> str:
    """A (height, width) as text: width x height."""
    return f"{size[1]} x {size[0]}"


def tolerated(bad: int, total: int) -> bool:
    """Whether at most 1 in 100 of `total` images are unreadable."""
    return bad <= total // 100


def refuse_bad(bad: Sequence[str], total: int) -> None:
    """Raises EffkerasError when more than 1 in 100 images are unusable; `bad` holds the errors."""
    if not tolerated(len(bad), total):
        raise EffkerasError(f"{len(bad)} of {total} images cannot be used; the first: {bad[0]}")


def note_skipped(bad: Sequence[str], total: int) -> None:
    """Notes how many images were skipped. Raises EffkerasError for more than 1 in 100."""
    refuse_bad(bad, total)
    if bad:
        note(f"skipped {len(bad)} of {total} images that cannot be used; the first: {bad[0]}")


def is_image(path: Path) -> bool:
    """Whether a file name has an image suffix and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in `folder`, sorted by name; [] when `folder` is not a folder."""
    if not folder.is_dir():
        return []
    return [path for path in list_folder(folder) if path.is_dir() and not path.name.startswith(".")]


def list_folder(folder: Path) -> list[Path]:
    """All entries of `folder`, sorted by name. Raises EffkerasError when it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise EffkerasError(f"cannot read the folder {folder}: {error.strerror}; check the path") from error


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        _refuse_bomb(image)
        return np.array(_as_rgb(ImageOps.exif_transpose(image)), np.uint8)


def _refuse_bomb(image: Image.Image) -> None:
    # Up to twice its limit, Pillow only warns.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise EffkerasError("the image holds floating-point values; save it with 8 bits per channel")
    if image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _from_16_bits(values: np.ndarray) -> Image.Image:
    clipped = np.clip(values.astype(np.int64), 0, 65535)
    return Image.fromarray(((clipped + 128) // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
