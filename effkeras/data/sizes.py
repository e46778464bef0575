"""Compares the sizes that labels state with those in the headers of the image files, and corrects labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effkeras.data.images import image_size
from effkeras.data.reading import same_shape, shape_problem, sides
from effkeras.data.records import DetectionData, DetectionRecord, Mask, Polygons, RunLengths, Skipped
from effkeras.data.segmentations import encode_rle, pixels_of
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError

Size = tuple[int, int]
_CHUNK = 256  # images a thread reads at once: handing over single ones costs more than reading a header
_SHOW_PROGRESS = 5000  # images that take about a second


def header_sizes(paths: Iterable[Path]) -> dict[Path, Size | EffkerasError]:
    """The height and width of each image file after its EXIF turn; the error for an unreadable one."""
    unique = list(dict.fromkeys(paths))
    chunks = [unique[start : start + _CHUNK] for start in range(0, len(unique), _CHUNK)]
    with ThreadPoolExecutor() as pool:
        parts: Iterable[list[tuple[Path, Size | EffkerasError]]] = pool.map(_sizes, chunks)
        if len(unique) > _SHOW_PROGRESS:
            parts = track(parts, "reading sizes", total=len(chunks))
        return {path: size for part in parts for path, size in part}


def _sizes(paths: Iterable[Path]) -> list[tuple[Path, Size | EffkerasError]]:
    return [(path, _size(path)) for path in paths]


def _size(path: Path) -> Size | EffkerasError:
    try:
        return image_size(path)
    except EffkerasError as error:
        return error


@dataclass(frozen=True, slots=True)
class Resized:
    """A split in the real sizes of its images.

    `scaled` says of each image whose boxes were scaled what both sizes are. `refused` lists the images that
    `data` lacks: those that cannot be read, and those whose shape differs from the stated one.
    """

    data: DetectionData
    scaled: tuple[str, ...] = ()
    refused: tuple[Skipped, ...] = ()


def in_real_sizes(data: DetectionData, sizes: Mapping[Path, Size | EffkerasError]) -> Resized:
    """The split with boxes and masks in pixels of the image files.

    An image with the stated aspect ratio but another size was scaled after labelling: its boxes and masks are
    scaled too. Of any other size, the boxes cannot be placed.

    Args:
        data: the split.
        sizes: the files' sizes (`header_sizes`).
    """
    records: list[DetectionRecord] = []
    scaled: list[str] = []
    refused: list[Skipped] = []
    for record in data.records:
        real = sizes[record.path]
        if isinstance(real, EffkerasError):
            refused.append(Skipped(str(record.path), _without(str(real), record.path), is_image=True))
        elif real == record.size:
            records.append(record)
        elif same_shape(real, record.size):
            records.append(scaled_to(record, real))
            scaled.append(f"{record.path} has {sides(real)} pixels, and its labels say {sides(record.size)}")
        else:
            refused.append(Skipped(str(record.path), size_problem(real, record.size), is_image=True))
    return Resized(replace(data, records=tuple(records)), tuple(scaled), tuple(refused))


def size_problem(real: Size, stated: Size) -> str:
    """What is wrong with an image whose shape is not the stated one."""
    problem = shape_problem(real, stated)
    return f"it has {sides(real)} pixels and its labels say {sides(stated)}: {problem}"


def scaled_to(record: DetectionRecord, size: Size) -> DetectionRecord:
    """The record for its image in another size, (height, width)."""
    factors = np.array([size[0] / record.size[0], size[1] / record.size[1]])
    corners = np.tile(factors, 2)
    masks = record.masks
    if not isinstance(masks, Path):
        masks = tuple(mask and _scaled_mask(mask, record.size, size) for mask in masks)
    return replace(
        record,
        size=size,
        boxes=(record.boxes * corners).astype(np.float32),
        areas=(record.areas * factors.prod()).astype(np.float32),
        unknown=(record.unknown * corners).astype(np.float32),
        masks=masks,
    )


def without_images(data: DetectionData, paths: Collection[Path]) -> DetectionData:
    """The split without the images in these files."""
    return replace(data, records=tuple(one for one in data.records if one.path not in paths))


def _scaled_mask(mask: Mask, old: Size, new: Size) -> Mask:
    if isinstance(mask, Polygons):
        factors = np.array([new[1] / old[1], new[0] / old[0]], np.float32)
        return Polygons(tuple(points * factors for points in mask.points))
    rows, columns = (
        np.minimum((np.arange(new[axis]) + 0.5) * old[axis] / new[axis], old[axis] - 1).astype(int)
        for axis in (0, 1)
    )
    scaled = pixels_of(mask, old)[rows[:, None], columns]
    return RunLengths(np.array(encode_rle(scaled)["counts"], np.int64))


def _without(text: str, path: Path) -> str:
    return text.removeprefix(f"{path}: ")
