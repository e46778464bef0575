"""Checks that all readers share: bounding boxes lie inside their images, and image files exist."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from effkeras.data.images import tolerated
from effkeras.data.records import Skipped
from effkeras.support import files
from effkeras.support.errors import EffkerasError

SLACK = 1.0  # pixels by which annotation tools commonly exceed an image
THINNEST = 0.01  # pixels; thinner boxes vanish when rounded to float32

Corners = tuple[float, float, float, float]  # ymin, xmin, ymax, xmax in pixels


def clipped_box(box: Corners, image: str, size: tuple[int, int], *, shown: tuple[float, ...]) -> Corners:
    """A bounding box clipped to its image.

    Args:
        box: the box.
        image: the image's name in errors.
        size: its height and width in pixels.
        shown: the box's numbers as the format writes them, for errors.

    Raises:
        EffkerasError: the box has no area, or reaches more than 1 pixel beyond the image.
    """
    top, left, bottom, right = box
    height, width = size
    if right - left < THINNEST or bottom - top < THINNEST:
        raise EffkerasError(f"its box {list(shown)} has no area")
    overshoot = max(-left, -top, right - width, bottom - height)
    clipped = (max(top, 0.0), max(left, 0.0), min(bottom, height), min(right, width))
    if overshoot > SLACK or min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < THINNEST:
        raise EffkerasError(f"its box {list(shown)} lies outside {image} ({width} x {height})")
    return clipped


def existing_images(
    labels: Path, folder: Path, names: Mapping[int, str]
) -> tuple[dict[int, Path], list[Skipped]]:
    """The path of each image whose file exists, by image id, and the missing ones.

    Args:
        labels: the file that names the images, for errors.
        folder: the folder that the names are relative to.
        names: the name of each image's file by image id.

    Raises:
        EffkerasError: more than 1 in 100 files are missing, or a name leads out of the folder.
    """
    present_names = _file_names(labels, folder)
    paths = {identity: _path(labels, folder, identity, name) for identity, name in names.items()}
    missing = {key: path for key, path in paths.items() if not _exists(path, folder, present_names)}
    if not tolerated(len(missing), len(names)):
        identity, path = next(iter(missing.items()))
        raise EffkerasError(
            f"{labels}: {len(missing)} of {len(names)} image files are missing, first {str(path)!r} "
            f"(image {identity}); put them there, or take them out of the labels"
        )
    skipped = [Skipped(f"image {key}", f"no such file: {path}") for key, path in missing.items()]
    return {key: path for key, path in paths.items() if key not in missing}, skipped


def _file_names(labels: Path, folder: Path) -> frozenset[str]:
    """The files in `folder`: one listing is far faster than a look-up for each of 100,000 images."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError as error:
        raise EffkerasError(f"{labels}: its image folder {folder} is missing ({error.strerror})") from error


def _path(labels: Path, folder: Path, identity: int, name: str) -> Path:
    if name == os.path.basename(name) and name not in (".", ".."):  # noqa: PTH119
        return folder / name  # cannot lead out, and may be a link to another disk
    try:
        return files.inside(folder, name)
    except (OSError, ValueError, RuntimeError) as error:
        raise EffkerasError(f"{labels}: image {identity}: {error}; correct its file_name") from error


def _exists(path: Path, folder: Path, names: frozenset[str]) -> bool:
    return path.name in names if path.parent == folder else os.path.isfile(path)  # noqa: PTH113
