"""Picture files: found in folders, and decoded to one form whatever they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from effkeras.errors import EffkerasError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_WAY_OUT = "replace the file, or take it out of the data set"


def read_picture(path: Path) -> np.ndarray:
    """The picture in `path` as uint8 (height, width, 3), RGB, turned the way EXIF says.

    Palettes and greys become RGB, 16-bit greys are scaled to 8 bits, and transparent pictures are laid on
    white. Raises EffkerasError when the file is missing, cut short, too large or not a picture.
    """
    path = Path(path)
    if not path.is_file():
        raise EffkerasError(f"{path}: there is no such picture file; correct the path or the labels")
    try:
        return _decode(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise EffkerasError(f"{path}: the picture is too large to decode safely; scale it down") from error
    except EffkerasError as error:
        raise EffkerasError(f"{path}: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise EffkerasError(f"{path}: not a picture that Pillow can read; {_WAY_OUT}") from error
    except Exception as error:  # Pillow's readers raise whatever broken bytes make them trip over
        raise EffkerasError(f"{path}: the picture is cut short or damaged ({error}); {_WAY_OUT}") from error


def tolerated(bad: int, total: int) -> bool:
    """Whether `bad` unreadable pictures among `total` are few enough to go on: one in a hundred."""
    return bad <= total // 100


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is a picture; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder`, by name, without hidden ones; none when `folder` is not a folder."""
    if not folder.is_dir():
        return []
    return [path for path in list_folder(folder) if path.is_dir() and not path.name.startswith(".")]


def list_folder(folder: Path) -> list[Path]:
    """Everything in `folder`, by name; raises EffkerasError when it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise EffkerasError(f"cannot read the folder {folder}: {error.strerror}; check the path") from error


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        _refuse_bomb(image)
        return np.array(_as_rgb(ImageOps.exif_transpose(image)), np.uint8)


def _refuse_bomb(image: Image.Image) -> None:
    # Pillow only warns up to twice its limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise EffkerasError("the picture holds floating-point values; save it with 8 bits per channel")
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
