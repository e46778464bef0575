"""Image files: finds them in folders, and decodes them to RGB."""

from __future__ import annotations

import functools
import os
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from effkeras.data.cut_jpegs import decode_cut_jpeg
from effkeras.support.errors import EffkerasError

HEIF_SUFFIXES = frozenset({".heic", ".heif"})  # photos of iPhones; Pillow reads them with a plug-in
SUFFIXES = HEIF_SUFFIXES | frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .webp .gif .tif .tiff .avif".split()  # noqa: SIM905
)
# The formats that are read, whatever a file is called. Pillow knows more: it hands EPS to Ghostscript, which
# runs what the file says.
_FORMATS = (
    "PNG JPEG MPO BMP DIB GIF WEBP TIFF AVIF HEIF JPEG2000 PPM ICO TGA PCX SGI".split()  # noqa: SIM905
)
_HEIF_HINT = "pip install pillow-heif"
_WAY_OUT = "replace the file, or take it out of the data set"
_TWELVE_BITS = 4096


class Remark(Enum):
    """What is unusual about an image file that was read nevertheless, as a verb and its object."""

    CUT = "end early; what is missing is grey"
    DARK = (
        "have 16 bits and use at most the lowest 12, so they are nearly black; if they hold 12 bits, "
        "multiply their values by 16"
    )
    FRAMES = "have several frames; only the first is used"


@dataclass(frozen=True, eq=False, slots=True)
class Decoded:
    """An image, uint8 (height, width, 3), RGB, and the remarks on its file."""

    pixels: np.ndarray
    remarks: tuple[Remark, ...] = ()


def read_image(path: Path) -> np.ndarray:
    """The image in `path` as uint8 (height, width, 3), RGB, oriented by its EXIF data.

    Palettes and greyscale become RGB, 16-bit greyscale is scaled to 8 bits, and transparent images get a
    white background. Of several frames the first is read. What a JPEG file that ends early lost is grey.
    Raises EffkerasError when the file is missing, has lost most of its data, is too large or not an image.
    """
    return decode_image(path).pixels


def decode_image(path: Path) -> Decoded:
    """Like `read_image`, with remarks on the file."""
    path = Path(path)
    if not path.is_file():
        raise EffkerasError(f"{path}: there is no such image file; correct the path or the labels")
    _can_open(path)
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


@functools.cache
def readable_formats() -> list[str]:
    """The names in Pillow of the formats that are read."""
    _reads_heif()  # which adds its format
    Image.init()
    return [one for one in _FORMATS if one in Image.OPEN]


def image_size(path: Path) -> tuple[int, int]:
    """The height and width of the image in `path` after its EXIF turn, from the file's header alone.

    Raises EffkerasError when the file is missing or not an image.
    """
    _can_open(path)
    try:
        with Image.open(path, formats=readable_formats()) as image:
            return (image.width, image.height) if _is_turned(image) else (image.height, image.width)
    except FileNotFoundError as error:
        raise EffkerasError(f"{path}: there is no such image file; correct the path or the labels") from error
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for damaged files
        raise EffkerasError(f"{path}: not an image that Pillow can read; {_WAY_OUT}") from error


def _is_turned(image: Image.Image) -> bool:
    """Whether Exif data swap the image's sides; the pixels are not decoded."""
    # For Exif data behind the pixels, where hardly any file has them, Pillow decodes a whole PNG.
    if image.format == "PNG" and {"exif", "Raw profile type exif"}.isdisjoint(image.info):
        return False
    return bool(image.getexif().get(ExifTags.Base.Orientation, 1) >= 5)


def tolerated(bad: int, total: int) -> bool:
    """Whether at most 1 in 100 of `total` images are unreadable."""
    return bad <= total // 100


def is_image(path: Path) -> bool:
    """Whether a file name has the suffix of an image that can be read here, and is not hidden."""
    suffix = path.suffix.lower()
    if path.name.startswith(".") or suffix not in SUFFIXES:
        return False
    return suffix not in HEIF_SUFFIXES or _reads_heif()


@dataclass(frozen=True, slots=True)
class FolderImages:
    """The images in a folder and its sub-folders, and its other files; each sorted by path."""

    images: tuple[Path, ...]
    others: tuple[Path, ...]

    @property
    def left_out(self) -> str:
        """How many other files there are, by suffix: "3 files that are no images (2 .txt, 1 .pdf)"; or ""."""
        if not self.others:
            return ""
        counts = Counter(path.suffix.lower() or "without suffix" for path in self.others)
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(6))
        kinds += ", ..." if len(counts) > 6 else ""
        hint = f"; {_HEIF_HINT} lets .heic be read" if HEIF_SUFFIXES & set(counts) else ""
        verb = "files that are no images" if len(self.others) > 1 else "file that is no image"
        return f"{len(self.others)} {verb} ({kinds}{hint})"


def images_below(folder: Path, without: Path | None = None) -> FolderImages:
    """All files in `folder` and its sub-folders, except hidden ones and those in the folder `without`.

    Links are followed; a folder is visited once.

    Raises EffkerasError when a folder cannot be read.
    """
    images: list[Path] = []
    others: list[Path] = []
    seen = {without.resolve()} if without is not None else set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        if (real := current.resolve()) in seen:
            continue
        seen.add(real)
        names, folders = _visible(current)
        waiting += (current / name for name in folders)
        for path in (current / name for name in names):
            (images if is_image(path) else others).append(path)
    return FolderImages(tuple(sorted(images)), tuple(sorted(others)))


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in `folder`, sorted by name; [] when `folder` is not a folder."""
    if not folder.is_dir():
        return []
    return [folder / name for name in sorted(_visible(folder)[1])]


def _visible(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the files and of the folders in `folder`, hidden ones apart."""
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for one in entries:
                if not one.name.startswith("."):
                    (folders if one.is_dir() else names).append(one.name)
    except OSError as error:
        raise EffkerasError(f"cannot read the folder {folder}: {error.strerror}; check the path") from error
    return names, folders


def list_folder(folder: Path) -> list[Path]:
    """All entries of `folder`, sorted by name. Raises EffkerasError when it cannot be read."""
    try:
        return [folder / name for name in sorted(os.listdir(folder))]  # noqa: PTH208 - to sort paths is slow
    except OSError as error:
        raise EffkerasError(f"cannot read the folder {folder}: {error.strerror}; check the path") from error


@functools.cache
def _reads_heif() -> bool:
    """Whether Pillow reads HEIF; its plug-in is registered where it is installed."""
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found]
    except ImportError:
        return False
    register_heif_opener()
    return True


def _can_open(path: Path) -> None:
    """Raises EffkerasError for a file that needs a plug-in which is not installed."""
    if path.suffix.lower() in HEIF_SUFFIXES and not _reads_heif():
        raise EffkerasError(f"{path}: Pillow needs a plug-in for {path.suffix} files: {_HEIF_HINT}")


def _decode(path: Path) -> Decoded:
    with Image.open(path, formats=readable_formats()) as image:
        _refuse_bomb(image)
        remarks = [Remark.FRAMES] if _has_frames(image) else []
        raw = _raw_mode(image)
        try:
            image.load()
        except OSError:
            whole = decode_cut_jpeg(path.read_bytes()) if image.format == "JPEG" else None
            if whole is None:
                raise
            return Decoded(_pixels(whole), (*remarks, Remark.CUT))
        pixels = _pixels(image)
        if _is_dark(image, raw, pixels):
            remarks.append(Remark.DARK)
        return Decoded(pixels, tuple(remarks))


def _pixels(image: Image.Image) -> np.ndarray:
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # else Pillow copies the image
        image = ImageOps.exif_transpose(image)
    return np.array(_as_rgb(image), np.uint8)


def _has_frames(image: Image.Image) -> bool:
    """Whether the file is an animation or has several pages; phones' MPO files are one photo with extras."""
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))


def _raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, by Pillow's name, such as "RGB;16B"; "" if Pillow does not say."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        return mode if isinstance(mode, str) else ""
    return ""


def _is_dark(image: Image.Image, raw: str, pixels: np.ndarray) -> bool:
    """Whether an image of 16 bits, black ones apart, has only values below 4096."""
    if image.mode.startswith("I"):
        return 0 < int(np.max(np.asarray(image))) < _TWELVE_BITS
    return ";16" in raw and 0 < int(pixels.max()) < _TWELVE_BITS // 256  # Pillow keeps the upper 8 bits


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
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(values: np.ndarray) -> Image.Image:
    clipped = np.clip(values.astype(np.int64), 0, 65535)
    return Image.fromarray(((clipped + 128) // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
