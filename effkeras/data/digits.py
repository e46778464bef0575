"""The digits data set: scanned handwritten digits on textured backgrounds, without a download.

scikit-learn ships the 1,797 scans (8 x 8 pixels) and the two photographs: part of the "Optical Recognition
of Handwritten Digits" set of the UCI repository, and two images under CC BY.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from effkeras.data.formats.class_folders import write_folder
from effkeras.data.formats.coco import write_coco
from effkeras.data.records import Category, DetectionRecord
from effkeras.data.segmentations import Segmentation, encode_rle, trace_polygons
from effkeras.support import console, files
from effkeras.support.errors import EffkerasError
from effkeras.support.replacing import remove_strays

SPLITS = ("train", "val", "test")
LABELS = tuple("0123456789")
CATEGORIES = tuple(Category(position + 1, label) for position, label in enumerate(LABELS))
SHARES = {"train": 0.64, "val": 0.14}  # of each digit's scans; the rest is test
DETECTION_SIZE, CLASSIFICATION_SIZE = 128, 32
INK = 0.3  # minimum opacity of a digit's pixels
_ABOUT = "dataset.json"
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class DigitsOptions:
    """Options of the data set: images per split, `size` in pixels (0: 128, or 32 for classification).

    `masks` adds COCO segmentations; `classify` writes a folder per class, with one digit per image. Raises
    EffkerasError for invalid values.
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
        """Images in a split."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]


def write_digits(out: Path, options: DigitsOptions) -> None:
    """Writes the data set into the folder `out`, which appears complete or not at all.

    The same options give the same bytes, and a longer split begins with the shorter one. A folder that
    already holds this data set stays unchanged. Raises EffkerasError when `out` holds anything else or cannot
    be written, or scikit-learn is missing.
    """
    out = Path(out)
    if _already_there(out, options):
        remove_strays(out.absolute().parent)  # of a process that was killed when all was there
        console.note(f"{out}: already there")
        return
    sources = load_sources()
    with files.whole_folder(out) as made:
        _write(made, sources, options)


class Sources(NamedTuple):
    """The scans and photographs that images are composed of.

    `scans` is uint8 (n, 8, 8), 0..255; `labels` int (n,); `photographs` are RGB.
    """

    scans: np.ndarray
    labels: np.ndarray
    photographs: tuple[Image.Image, ...]


def load_sources() -> Sources:
    """Loads scans and photographs. Raises EffkerasError when scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        way_out = 'pip install "effkeras[demo]"'
        raise EffkerasError(
            f"the digits come with scikit-learn, which is not installed: {way_out}"
        ) from error
    digits = load_digits()
    scans = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    photographs = tuple(Image.fromarray(pixels) for pixels in load_sample_images().images)
    return Sources(scans, digits.target.astype(np.int64), photographs)


def split_scans(labels: np.ndarray, split: str) -> np.ndarray:
    """Indices of the scans of a split: a fixed share of each digit, in the order of the set.

    The set is ordered by writer, so most writers of the test split are new to a model.
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
        raise EffkerasError("every split needs at least one image; use 1 or more")
    if options.max_digits < 1:
        raise EffkerasError(f"no image can hold {options.max_digits} digits; use 1 or more")
    if options.seed < 0:
        raise EffkerasError(f"the seed {options.seed} is negative; use 0 or more")
    if options.masks not in ("none", "polygon", "rle"):
        raise EffkerasError(f"unknown masks {options.masks!r}; use none, polygon or rle")
    if options.classify and options.masks != "none":
        raise EffkerasError("a folder per class has no place for masks; use masks none")


def _already_there(out: Path, options: DigitsOptions) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        if json.loads((out / _ABOUT).read_text()) == _about(options):
            return True
    except (OSError, ValueError, RecursionError):
        pass
    raise EffkerasError(f"{out} holds other files already; choose another folder, or remove it first")


def _about(options: DigitsOptions) -> dict[str, Any]:
    return {"made_by": "effkeras digits", "version": 1, "options": asdict(options)}


def _write(out: Path, sources: Sources, options: DigitsOptions) -> None:
    for split in SPLITS:
        own = _of_split(sources, split)
        if options.classify:
            write_folder(out, split, LABELS, _labelled(own, split, options))
        else:
            _write_detection(out / split, own, split, options)
    files.write_text(out / _ABOUT, json.dumps(_about(options), indent=1) + "\n")


def _of_split(sources: Sources, split: str) -> Sources:
    chosen = split_scans(sources.labels, split)
    return sources._replace(scans=sources.scans[chosen], labels=sources.labels[chosen])


def _generators(split: str, options: DigitsOptions) -> Iterator[np.random.Generator]:
    """One generator per image, so that an image depends only on its index."""
    indices = range(options.count(split))
    for index in console.track(indices, f"{split} images", len(indices)):
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
    write_coco(out, CATEGORIES, records, segmentations)


class _Placed(NamedTuple):
    """A digit in an image: its class, its box (ymin, xmin, ymax, xmax) and its ink, bool (size, size)."""

    label: int
    box: tuple[int, int, int, int]
    ink: np.ndarray


def _record(path: Path, index: int, placed: list[_Placed], options: DigitsOptions) -> DetectionRecord:
    boxes = np.array([item.box for item in placed], np.float32)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if options.masks != "none":
        areas = np.array([item.ink.sum() for item in placed], np.float32)
    labels = np.array([item.label for item in placed], np.int64)
    size = (options.size, options.size)
    return DetectionRecord(path, index, size, boxes, labels, np.zeros(len(placed), bool), areas)


def _segmentation(item: _Placed, options: DigitsOptions) -> Segmentation:
    return encode_rle(item.ink) if options.masks == "rle" else trace_polygons(item.ink)


def _draw_many(
    rng: np.random.Generator, sources: Sources, options: DigitsOptions
) -> tuple[np.ndarray, list[_Placed]]:
    """An image, uint8 (size, size, 3), and the digits in it."""
    size = options.size
    canvas = _background(rng, sources.photographs, size)
    placed: list[_Placed] = []
    count = rng.integers(1, options.max_digits + 1)
    for height in sorted(np.exp(rng.uniform(math.log(14), math.log(64), count)), reverse=True):
        chosen = rng.integers(len(sources.scans))
        alpha = _stamp(rng, sources.scans[chosen], height * size / DETECTION_SIZE)
        found = _find_place(rng, alpha > INK, int(sources.labels[chosen]), placed, size)
        if found is not None:
            item, corner = found
            _blend(rng, canvas, alpha, corner)
            placed.append(item)
    return _finish(rng, canvas), placed


def _draw_one(rng: np.random.Generator, sources: Sources, label: int, size: int) -> np.ndarray:
    """An image, uint8 (size, size, 3), with one digit near its middle."""
    canvas = _background(rng, sources.photographs, size)
    scan = sources.scans[rng.choice(np.flatnonzero(sources.labels == label))]
    alpha = _stamp(rng, scan, size * rng.uniform(0.45, 0.68))[:size, :size]
    free = np.array([size - alpha.shape[0], size - alpha.shape[1]])
    top, left = np.clip(np.rint(free * rng.uniform(0.35, 0.65, 2)), 0, free).astype(int).tolist()
    _blend(rng, canvas, alpha, (top, left))
    return _finish(rng, canvas)


def _finish(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Adds sensor noise and rounds to uint8."""
    noise = rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(0, 6))
    return np.clip(np.rint(canvas + noise), 0, 255).astype(np.uint8)


def _stamp(rng: np.random.Generator, scan: np.ndarray, height: float) -> np.ndarray:
    """A scan's ink, float32 (h, w) in 0..1, about `height` pixels tall, slightly rotated and sheared."""
    scale = height / 8
    stretch = rng.uniform(0.8, 1.2)
    angle, shear = math.radians(rng.uniform(-12, 12)), rng.uniform(-0.2, 0.2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([scale * stretch, scale])
    side = math.ceil(14 * scale)
    backward = np.linalg.inv(forward)
    offset = 6 - backward @ np.array([side / 2, side / 2])
    matrix = (*backward[0], offset[0], *backward[1], offset[1])
    padded = Image.fromarray(np.pad(scan, 2))  # so that interpolation fades to zero at the border
    grown = padded.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return _crop(_sharpen(np.asarray(grown, np.float32) / 255, rng.uniform(0.18, 0.34), 0.3))


def _sharpen(coverage: np.ndarray, low: float, width: float) -> np.ndarray:
    """Sharpens the blurred edge of an enlarged scan: no ink below `low`, full ink above `low + width`."""
    ramp = np.clip((coverage - low) / width, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _crop(alpha: np.ndarray) -> np.ndarray:
    top, left, bottom, right = _bounds(alpha > 0.02)
    return alpha[top:bottom, left:right]


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The bounds ymin, xmin, ymax, xmax of the true pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _find_place(
    rng: np.random.Generator, ink: np.ndarray, label: int, placed: list[_Placed], size: int
) -> tuple[_Placed, tuple[int, int]] | None:
    """A place for a digit with little box overlap and no ink overlap, and its top left corner."""
    top, left, bottom, right = _bounds(ink)
    for _ in range(20):
        row, column = rng.integers(0, (size - ink.shape[0] + 1, size - ink.shape[1] + 1)).tolist()
        box = (row + top, column + left, row + bottom, column + right)
        if all(_crowding(box, other.box) <= 0.08 for other in placed):
            whole = np.pad(ink, ((row, size - row - ink.shape[0]), (column, size - column - ink.shape[1])))
            if not any((whole & other.ink).any() for other in placed):
                return _Placed(label, box, whole), (row, column)
    return None


def _crowding(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """The overlap of two boxes relative to the area of the smaller one."""
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(height, 0) * max(width, 0) / smaller


def _blend(rng: np.random.Generator, canvas: np.ndarray, alpha: np.ndarray, corner: tuple[int, int]) -> None:
    """Draws ink on the canvas, in a colour that contrasts with the background."""
    height, width = alpha.shape
    below = canvas[corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    ink = _ink_colour(rng, below @ _LUMINANCE)
    below += (ink - below) * (alpha * np.float32(rng.uniform(0.88, 1)))[..., None]


def _ink_colour(rng: np.random.Generator, luminance: np.ndarray) -> np.ndarray:
    """A random colour, float32 (3,), lighter or darker than `luminance` by more than its own texture."""
    middle = float(luminance.mean())
    needed = 80 + 1.5 * float(luminance.std())
    room_below, room_above = middle - needed, 255 - middle - needed
    lighter = room_above > room_below if min(room_below, room_above) < 0 else rng.random() < 0.5
    reach = max(room_above if lighter else room_below, 0) * rng.random()
    target = middle + needed + reach if lighter else middle - needed - reach
    return _with_luminance(rng.random(3, np.float32) * 255, float(np.clip(target, 0, 255)))


def _with_luminance(colour: np.ndarray, target: float) -> np.ndarray:
    """The colour mixed with white or black until its luminance is `target`."""
    now = float(colour @ _LUMINANCE)
    if now < target:
        return colour + (255 - colour) * ((target - now) / (255 - now))
    return colour * (target / max(now, 1e-6))


def _background(rng: np.random.Generator, photographs: tuple[Image.Image, ...], size: int) -> np.ndarray:
    """A background, float32 (size, size, 3) in 0..255: noise, a noisy gradient, or part of a photograph."""
    kind = rng.random()
    if kind < 0.45:
        return _photographed(rng, photographs, size)
    noise = _value_noise(rng, size)
    colour = rng.uniform(40, 215, 3).astype(np.float32)
    base = colour if kind < 0.75 else _gradient(rng, size)
    return np.clip(base + noise * np.float32(rng.uniform(12, 34)), 0, 255)


def _value_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise, float32 (size, size, 3), with mean 0 and deviation 1: the sum of ever finer random grids."""
    total = np.zeros((size, size, 3), np.float32)
    keep, tint = rng.uniform(0.5, 0.95), np.float32(rng.uniform(0, 1))
    for octave in range(int(math.log2(size / 3)) - 1):  # down to a grain of about 3 pixels
        cells = 3 * 2**octave
        grid = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        grown = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        total += np.asarray(grown, np.float32) * np.float32(keep**octave)
    grey = total[..., :1]
    total = grey + tint * (total - grey)
    return (total - total.mean()) / total.std()


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    """A gradient, float32 (size, size, 3), between two colours in a random direction."""
    first, second = rng.uniform(30, 225, (2, 3)).astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    across = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    ramp = 0.5 + (across[:, None] * math.sin(angle) + across * math.cos(angle)) / math.sqrt(2)
    return first + (second - first) * ramp[..., None].astype(np.float32)


def _photographed(rng: np.random.Generator, photographs: tuple[Image.Image, ...], size: int) -> np.ndarray:
    """A blurred, low-contrast part of a photograph, float32 (size, size, 3), so that ink stands out."""
    image = photographs[rng.integers(len(photographs))]
    side = rng.uniform(0.25, 0.9) * min(image.size)
    left, top = rng.uniform(0, 1, 2) * (np.array(image.size) - side)
    box = (left, top, left + side, top + side)
    part = image.resize((size, size), Image.Resampling.BILINEAR, box)
    part = part.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2) * size / DETECTION_SIZE))
    pixels = np.asarray(part, np.float32)[:, :: rng.choice((-1, 1))]
    middle = pixels.mean((0, 1))
    shift = rng.uniform(-40, 40, 3).astype(np.float32)
    return np.clip(middle + shift + (pixels - middle) * np.float32(rng.uniform(0.4, 0.75)), 0, 255)
