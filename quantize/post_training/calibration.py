"""Calibration data: chooses images and prepares them as the network takes them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from effkeras.data.images import Decoded, decode_image, tolerated
from effkeras.data.preprocess import filled, network_input, place
from effkeras.data.reading import ImageReader, UnusableImages
from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData
from effkeras.definitions.definition import InputSpec
from effkeras.support.ahead import cores, mapped_ahead
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError

_READERS = 8  # threads at most that read images
_KEPT = 2**28  # bytes of images that are kept between iterations

Record = DetectionRecord | ClassificationRecord
# Labelled images, prepared by the model's definition; or arrays as the model takes them: float32
# (n, H, W, C), or an iterable of (H, W, C).
Calibration = LabelledData | np.ndarray | Iterable[np.ndarray]


@dataclass(frozen=True, slots=True)
class Sampling:
    """The largest number of calibration images, and the seed that chooses them."""

    samples: int = 128
    seed: int = 0


def calibration_inputs(
    data: Calibration, spec: InputSpec | None, shape: tuple[int, ...], sampling: Sampling
) -> CalibrationInputs:
    """Images as the network takes them; they can be iterated repeatedly.

    Args:
        data: labelled images, chosen evenly over the classes, or arrays, of which the first are used.
        spec: how labelled images are prepared; None if the model has no definition.
        shape: the shape of the model's input, (H, W, C).
        sampling: the number of images, and the seed.

    Raises:
        EffkerasError: there are no images, labelled images come without `spec`, or an array has another
            shape, or NaN or infinite values; or too many images cannot be read.
    """
    if not isinstance(data, LabelledData):
        return CalibrationInputs(
            tuple(_checked(one, shape) for one in itertools.islice(data, sampling.samples)), None
        )
    if spec is None:
        raise EffkerasError(
            "the model does not say how its images are prepared: give them as it takes them, "
            f"as float32 arrays of {shape}, instead of labelled data"
        )
    return CalibrationInputs(_readable(data, spec, sampling), spec, data.options.skip_bad)


def _readable(data: LabelledData, spec: InputSpec, sampling: Sampling) -> tuple[Any, ...]:
    """Chosen images that can be read; others are noted, and replaced by the next ones.

    The images are placed, uint8 (h, w, 3), if they fit into memory, else their records.
    """
    if sampling.samples < 1 or not data.records:
        return tuple(representative(data, sampling.samples, sampling.seed))  # raises
    unusable, reader = UnusableImages(data), ImageReader()
    chosen: list[Any] = []
    height, width = spec.size
    keeps = 3 * height * width * sampling.samples <= _KEPT
    records = representative(data, len(data.records), sampling.seed)
    with closing(_read_ahead(records)) as images:
        for record, found in zip(records, images, strict=True):
            if isinstance(found, EffkerasError):
                unusable.add(record.path, found)
                continue
            reader.saw(record.path, found)
            chosen.append(place(found.pixels, spec).content if keeps else record)
            if len(chosen) == sampling.samples:
                break
    unusable.note()
    reader.note_remarks(len(chosen))
    return tuple(chosen)


def _read_ahead(records: Iterable[Record]) -> Generator[Decoded | EffkerasError, None, None]:
    """The image of each record, or why it cannot be read; threads read ahead."""

    def read(record: Record) -> Decoded | EffkerasError:
        try:
            return decode_image(record.path)
        except EffkerasError as error:
            return error

    threads = min(_READERS, cores())
    return mapped_ahead(read, records, ahead=2 * threads, threads=threads)


@dataclass(frozen=True, eq=False, slots=True)
class CalibrationInputs:
    """Images as the network takes them: float32 (1, H, W, C), pixels 0..255 if there is a definition.

    Labelled images are `items` as they lie in the input, uint8 (h, w, 3), or records: these are read again in
    each iteration, which bounds memory. `skip_bad` leaves out any number of unreadable ones.
    """

    items: tuple[Any, ...]
    spec: InputSpec | None
    skip_bad: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[np.ndarray]:
        if self.spec is None:
            return iter(self.items)
        if self.items and isinstance(self.items[0], np.ndarray):
            return (filled([one], self.spec) for one in self.items)
        return calibration_pixels(self.items, self.spec, skip_bad=self.skip_bad)

    def first(self, count: int) -> CalibrationInputs:
        """The first `count` images."""
        return replace(self, items=self.items[:count])


class Reiterable:
    """An iterable that calls a function for each new iteration."""

    def __init__(self, make: Callable[[], Iterable[np.ndarray]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._make())


def checked_variety(inputs: Iterable[np.ndarray], ground: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yields the images, then raises EffkerasError if all their pixels have one colour.

    Pixels of the colour `ground` are ignored: it fills the padding of the input.
    """
    low: Any = np.inf
    high: Any = -np.inf
    for pixels in inputs:
        if np.ndim(low) and np.any(low < high):
            yield pixels
            continue
        shown = pixels if ground is None else pixels[np.any(pixels != ground, axis=-1)]
        shown = shown.reshape(-1, pixels.shape[-1])
        low = np.minimum(low, shown.min(axis=0, initial=np.inf))
        high = np.maximum(high, shown.max(axis=0, initial=-np.inf))
        yield pixels
    if np.ndim(low) and not np.any(low < high):
        raise EffkerasError(
            "the calibration images show one and the same colour everywhere, which gives no ranges; "
            "give real images"
        )


def _checked(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(image)
    if array.shape not in (shape, (1, *shape)) or array.dtype.kind not in "fiu":
        raise EffkerasError(f"a calibration image is {array.dtype} {array.shape}; the model takes {shape}")
    array = array.astype(np.float32).reshape(1, *shape)
    if not np.isfinite(array).all():
        raise EffkerasError("a calibration image has values that are infinite or not a number")
    return array


def representative(data: LabelledData, count: int, seed: int = 0) -> list[Record]:
    """Chooses up to `count` records, evenly over all classes.

    Classes take turns: each adds one of its images that is not chosen yet. Images without any class come
    last. The same data, count and seed give the same records in the same order. Raises EffkerasError when
    there are no images or `count` is below 1.
    """
    if count < 1:
        raise EffkerasError(f"calibration needs at least 1 image, not {count}; raise --samples")
    if not data.records:
        raise EffkerasError(f"{data.root}: the split {data.split!r} has no images to calibrate with")
    order = list(range(len(data.records)))
    random.Random(seed).shuffle(order)
    chosen = list(dict.fromkeys(_by_turns(_queues(data, order))))[:count]
    return [data.records[index] for index in chosen]


def calibration_pixels(
    records: Iterable[Record], spec: InputSpec, *, skip_bad: bool = False
) -> Iterator[np.ndarray]:
    """Each record's image as the network takes it: float32 (1, H, W, 3), pixels 0..255.

    Images that cannot be read are skipped with a note. Raises EffkerasError when all are unreadable, and,
    without `skip_bad`, when more than one in a hundred are (one is always tolerated if others remain).
    """
    listed = list(records)
    reader = ImageReader()
    bad = 0
    with closing(_read_ahead(listed)) as images:
        for record, found in zip(listed, images, strict=True):
            if isinstance(found, EffkerasError):
                bad += 1
                may_skip = skip_bad or bad == 1 or tolerated(bad, len(listed))
                if bad == len(listed) or not may_skip:
                    raise found
                note_once(f"calibration skipped: {found}")
                continue
            reader.saw(record.path, found)
            yield network_input(found.pixels, spec)[None]
    reader.note_remarks(len(listed))


def _queues(data: LabelledData, order: list[int]) -> list[list[int]]:
    """The indices of images by class, in the given order; the last queue holds those without a class."""
    by_class: dict[int, list[int]] = {}
    without: list[int] = []
    for index in order:
        classes = _classes(data.records[index])
        for label in classes:
            by_class.setdefault(label, []).append(index)
        if not classes:
            without.append(index)
    return [*(by_class[label] for label in sorted(by_class)), without]


def _by_turns(queues: list[list[int]]) -> Iterator[int]:
    *classes, without = queues
    seen: set[int] = set()
    pending = [iter(queue) for queue in classes]
    while pending:
        for queue in list(pending):
            fresh = next((index for index in queue if index not in seen), None)
            if fresh is None:
                pending.remove(queue)
                continue
            seen.add(fresh)
            yield fresh
    yield from without


def _classes(record: Record) -> list[int]:
    if isinstance(record, ClassificationRecord):
        return [record.label]
    return sorted({int(label) for label in record.classes})
