"""Small Pascal VOC data sets, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Box = tuple[str, int, int, int, int]  # class, xmin, ymin, xmax, ymax


def write_voc(
    root: Path,
    splits: Mapping[str, Mapping[str, Sequence[Box]]],
    size: tuple[int, int] = (64, 48),
    stated: tuple[int, int] | None = None,
) -> Path:
    """A data set with these boxes by image and split. Images are noise of (width, height) `size`.

    `stated` is the size in the labels if it differs.
    """
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
        for name, boxes in images.items():
            write_image(root / "JPEGImages" / f"{name}.jpg", size)
            text = _document(name, boxes, stated or size)
            (root / "Annotations" / f"{name}.xml").write_text(text)
    return root


def write_image(path: Path, size: tuple[int, int] = (64, 48), seed: str = "") -> None:
    """An image of coarse noise, which differs by `seed` (by default the file's name)."""
    chance = np.random.default_rng(list((seed or path.stem).encode()))
    coarse = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8))
    coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)


def _document(name: str, boxes: Sequence[Box], size: tuple[int, int]) -> str:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
        for label, xmin, ymin, xmax, ymax in boxes
    )
    width, height = size
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )
