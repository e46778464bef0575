"""A real data set that needs no download: scanned handwritten digits on textured backgrounds.

The 1,797 scans (8 x 8 pixels) and the two photographs are the ones that scikit-learn ships: part of the
"Optical Recognition of Handwritten Digits" set of the UCI repository, and two pictures under CC BY.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from effkeras import console, files
from effkeras.data import coco, folder
from effkeras.data.records import Category, DetectionRecord
from effkeras.errors import EffkerasError

SPLITS = ("train", "val", "test")
LABELS = tuple("0123456789")
CATEGORIES = tuple(Category(position + 1, label) for position, label in enumerate(LABELS))
SHARES = {"train": 0.64, "val": 0.14}  # of each digit's scans; the rest is test
DETECTION_SIZE, CLASSIFICATION_SIZE = 128, 32
INK = 0.3  # opacity from which a pixel belongs to a digit
_ABOUT = "dataset.json"
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class DigitsOptions:
    """What to write: pictures per split, `size` in pixels (0: 128, or 32 for classification).

    `masks` adds COCO segmentations; `classify` writes a folder per class, one digit to a picture. Raises
    EffkerasError for values that make no data set.
    """

    size: int = 0
    train: int = 2400
    val: int = 300
    test: int = 1000
    max_digits: int = 8
    masks: Literal["none", "polygon", "rle"] = "none"
    seed: int = 0
    classify: bool = False

    def __post_init__(self) -> None:
        size = self.size or (CLASSIFICATION_SIZE if self.classify else DETECTION_SIZE)
        object.__setattr__(self, "size", size)
        _check_options(self)

    def count(self, split: str) -> int:
        """Pictures in a split."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]


def write_digits(out: Path, options: DigitsOptions) -> None:
    """Writes the data set into the folder `out`, which appears complete or not at all.

    The same options give the same bytes, and a longer split begins with the shorter one. A folder that
    already holds this very data set is left alone. Raises EffkerasError when `out` holds anything else,
    cannot be written, or scikit-learn is missing.
    """
    out = Path(out)
    if _already_there(out, options):
        console.note(f"{out}: already there")
        return
    sources = load_sources()
    files.make_folder(out.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=out.parent) as temporary:
            made = Path(temporary) / out.name
            made.mkdir()
            _write(made, sources, options)
            if out.is_dir():
                out.rmdir()
            made.rename(out)
    except OSError as error:
        raise EffkerasError(f"cannot write {out}: {error.strerror or error}; choose another folder") from error


class Sources(NamedTuple):
    """What pictures are made of.

    `scans` is uint8 (n, 8, 8), 0..255; `labels` int (n,); `photographs` are RGB.
    """

    scans: np.ndarray
    labels: np.ndarray
    photographs: tuple[Image.Image, ...]


def load_sources() -> Sources:
    """Loads scans and photographs; raises EffkerasError when scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        way_out = 'pip install "effkeras[demo]"'
        raise EffkerasError(f"the digits come with scikit-learn, which is not installed: {way_out}") from error
    digits = load_digits()
    scans = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    photographs = tuple(Image.fromarray(pixels) for pixels in load_sample_images().images)
    return Sources(scans, digits.target.astype(np.int64), photographs)


def split_scans(labels: np.ndarray, split: str) -> np.ndarray:
    """Indices of the scans that belong to a split: a fixed share of each digit, in the order of the set.

    Scans stand in the order of their writers, so most writers of the test split are new to a model.
    """
    chosen = [_share(np.flatnonzero(labels == label), split) for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def _share(scans: np.ndarray, split: str) -> np.ndarray:
    first = round(SHARES["train"] * len(scans))
    second = first + round(SHARES["val"] * len(scans))
    bounds = {"train": (0, first), "val": (first, second), "test": (second, len(scans))}
    return scans[slice(*bounds[split])]


def _check_options(options: DigitsOptions) -> None:
    smallest = 16 if options.classify else 48
    if not smallest <= options.size <= 2048:
        raise EffkerasError(f"a size of {options.size} pixels is not possible; use {smallest} to 2048")
    if min(options.train, options.val, options.test) < 1:
        raise EffkerasError("every split needs at least one picture; use 1 or more")
    if options.max_digits < 1:
        raise EffkerasError(f"at most {options.max_digits} digits to a picture is not possible; use 1 or more")
    if options.seed < 0:
        raise EffkerasError(f"the seed {options.seed} is negative; use 0 or more")
    if options.masks not in ("none", "polygon", "rle"):
        raise EffkerasError(f"unknown masks {options.masks!r}; use none, polygon or rle")
    if options.classify and options.masks != "none":
        raise EffkerasError("a folder per class has no place for masks; use masks none")


def _already_there(out: Path, options: DigitsOptions) -> bool:
    if out.is_dir() and not any(out.iterdir()):
        return False
    if not out.exists():
        return False
    try:
        if json.loads((out / _ABOUT).read_text()) == _about(options):
            return True
    except (OSError, ValueError):
        pass
    raise EffkerasError(f"{out} holds something else already; choose another folder, or remove it first")


def _about(options: DigitsOptions) -> dict[str, Any]:
    return {"made_by": "effkeras digits", "version": 1, "options": asdict(options)}


def _write(out: Path, sources: Sources, options: DigitsOptions) -> None:
    for split in SPLITS:
        own = _of_split(sources, split)
        if options.classify:
            folder.write_folder(out, split, LABELS, _labelled(own, split, options))
        else:
            _write_detection(out / split, own, split, options)
    files.write_text(out / _ABOUT, json.dumps(_about(options), indent=1) + "\n")


def _of_split(sources: Sources, split: str) -> Sources:
    chosen = split_scans(sources.labels, split)
    return sources._replace(scans=sources.scans[chosen], labels=sources.labels[chosen])


def _generators(split: str, options: DigitsOptions) -> Iterator[np.random.Generator]:
    """One generator per picture, so that a picture depends on its index alone, not on its neighbours."""
    indices = range(options.count(split))
    for index in console.track(indices, f"{split} pictures", len(indices)):
        yield np.random.default_rng([options.seed, SPLITS.index(split), index])


def _labelled(sources: Sources, split: str, options: DigitsOptions) -> Iterator[tuple[str, np.ndarray]]:
    for index, rng in enumerate(_generators(split, options)):
        label = index % len(LABELS)
        yield LABELS[label], _draw_one(rng, sources, label, options.size)


def _write_detection(out: Path, sources: Sources, split: str, options: DigitsOptions) -> None:
    images = files.make_folder(out / "images")
    records, segmentations = [], {}
    for index, rng in enumerate(_generators(split, options)):
        path = images / f"{index:06d}.jpg"
        pixels, placed = _draw_many(rng, sources, options)
        Image.fromarray(pixels).save(path, quality=92)
        masks = [_segmentation(item, options) for item in placed] if options.masks != "none" else None
        records.append(_record(path, index, placed, options))
        if masks is not None:
            segmentations[index] = masks
    coco.write_coco(out, CATEGORIES, records, segmentations)
