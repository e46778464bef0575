"""Random access to a split's images, decoded and resized to the network's input."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from effkeras.data.masks import MaskClasses, label_map, to_input
from effkeras.data.preprocess import Placement, content_size
from effkeras.data.reading import RecordReader, UnusableImages
from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData
from effkeras.definitions.definition import InputSpec
from effkeras.support.console import note_once, track
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import MEMORY_BUDGET

NO_CLASS = -1  # the class of padding
# The padding of each field of a sample in a batch, up to the most boxes of any of its images.
PADDING = (np.uint8(0), 0, 0.0, NO_CLASS, False, np.uint8(0))

Record = DetectionRecord | ClassificationRecord
# A box with its class and whether it is a crowd; a sample's seven Python objects.
_BOX_BYTES, _SAMPLE_BYTES = 16 + 4 + 1, 1024


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """One image in the network's input.

    `pixels` is uint8 (H, W, 3), 0 outside `content` (height, width). `boxes` is float32 (M, 4) in input
    pixels, all boxes of the image; `classes` int32 (M,); `crowd` bool (M,). A classifier's sample has one
    class in `classes` and no boxes. `labels` is the label map, uint8 (H, W) with 255 outside the image, or
    (0, 0) for models without a mask.
    """

    pixels: np.ndarray
    content: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    labels: np.ndarray


class ImageStore:
    """Random access to the samples of a split.

    Decodes all images at the start if they fit into `memory` bytes (2 GiB by default), else on each access;
    then the memory does not grow with the number of images. Images that cannot be used are left out (on
    access, the next usable image replaces them), noted and counted; more than 1 in 100 are an error, unless
    bad items are skipped.
    """

    def __init__(
        self,
        data: LabelledData,
        spec: InputSpec,
        masks: MaskClasses | None = None,
        memory: int | None = None,
    ):
        self._spec, self._data, self._memory = spec, data, memory
        self._reader = RecordReader(spec)
        self._masks = masks
        self._unusable = UnusableImages(data)
        self._cache: list[Sample] | None = None
        self._records: Sequence[Record] = data.records
        memory = MEMORY_BUDGET if memory is None else memory
        needed = sum(map(self._bytes_of, data.records))
        if needed <= memory:
            self._cache = self._decode_all()
        else:
            note_once(
                f"{len(data.records):,} images take {_gibibytes(needed)} decoded, above the limit of "
                f"{_gibibytes(memory)}: they are decoded again in each epoch"
            )

    def __len__(self) -> int:
        return len(self._cache if self._cache is not None else self._records)

    def __getitem__(self, index: int) -> Sample:
        held = self._cache[index] if self._cache is not None else self._next_usable(index)
        return dataclasses.replace(held, pixels=self._framed(held.pixels))

    def _next_usable(self, index: int) -> Sample:
        while True:
            self.check()
            record = self._records[index]
            result = self._sample_or_error(record)
            if isinstance(result, Sample):
                self._reader.note_first()
                return result
            self._unusable.add(record.path, result)
            note_once(f"skipped: {result}")
            index = (index + 1) % len(self._records)

    def _framed(self, content: np.ndarray) -> np.ndarray:
        """The content, uint8 (h, w, 3), in the network's input, with 0 for the padding."""
        height, width = content.shape[:2]
        if (height, width) == self._spec.size:
            return content
        pixels = np.zeros((*self._spec.size, 3), np.uint8)
        pixels[:height, :width] = content
        return pixels

    def _bytes_of(self, record: Record) -> int:
        """The memory that a decoded image takes; at most, where the labels do not state its size."""
        height, width = self._spec.size
        objects, labels = 1, height * width if self._masks else 0
        if isinstance(record, DetectionRecord):
            height, width = content_size(record.size, self._spec)
            objects = len(record.boxes) + len(record.unknown)
        return _SAMPLE_BYTES + 3 * height * width + labels + _BOX_BYTES * objects

    def resized(self, spec: InputSpec) -> ImageStore:
        """The same images for another input."""
        return ImageStore(self._data, spec, self._masks, self._memory)

    def classes(self) -> list[np.ndarray]:
        """The class indices of each sample's objects, without crowds."""
        if self._cache is not None:
            return [one.classes[~one.crowd] if len(one.boxes) else one.classes for one in self._cache]
        return [
            np.array([one.label]) if isinstance(one, ClassificationRecord) else one.classes[~one.crowd]
            for one in self._records
        ]

    def check(self) -> None:
        """Raises EffkerasError when too many images cannot be used."""
        self._unusable.check()

    def _decode_all(self) -> list[Sample]:
        with ThreadPoolExecutor() as pool:
            results = pool.map(self._sample_or_error, self._records)
            samples = list(track(results, "reading images", total=len(self._records)))
        for record, sample in zip(self._records, samples, strict=True):
            if isinstance(sample, EffkerasError):
                self._unusable.add(record.path, sample)
        self._unusable.note()
        self._reader.note_remarks(len(samples))
        return [sample for sample in samples if isinstance(sample, Sample)]

    def _sample_or_error(self, record: Record) -> Sample | EffkerasError:
        try:
            return self._sample(record)
        except EffkerasError as error:
            return error

    def _sample(self, record: Record) -> Sample:
        """An image as it is held: its `pixels` are uint8 (h, w, 3), without the padding."""
        placed = self._reader.read(record)
        pixels = _owned(placed.content)
        content = np.array(pixels.shape[:2], np.int32)
        labels = self._labels(record, placed.placement)
        if isinstance(record, ClassificationRecord):
            own = np.array([record.label], np.int32)
            return Sample(pixels, content, np.zeros((0, 4), np.float32), own, np.zeros(0, bool), labels)
        # The loss ignores a crowd whatever its class.
        record = record.with_unknown_as_crowds(classes=1)
        boxes = placed.placement.to_input(record.boxes)
        return Sample(pixels, content, boxes, record.classes.astype(np.int32), record.crowd, labels)

    def _labels(self, record: Record, placement: Placement) -> np.ndarray:
        if self._masks is None or isinstance(record, ClassificationRecord):
            return np.zeros((0, 0), np.uint8)
        labels = label_map(record, self._masks, placement.size)
        return to_input(labels, placement, self._spec.size)


def _owned(pixels: np.ndarray) -> np.ndarray:
    """The pixels, copied if they are a part of a larger image, which they would keep in memory."""
    return pixels if pixels.base is None or pixels.base.nbytes == pixels.nbytes else pixels.copy()


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"


def padded(samples: Sequence[Sample]) -> tuple[np.ndarray, ...]:
    """The fields of samples stacked along a new first axis; boxes are padded to the most of any sample."""
    _, _, box, label, crowd, _ = PADDING
    return (
        np.stack([one.pixels for one in samples]),
        np.stack([one.content for one in samples]),
        _filled_up([one.boxes for one in samples], box),
        _filled_up([one.classes for one in samples], label),
        _filled_up([one.crowd for one in samples], crowd),
        np.stack([one.labels for one in samples]),
    )


def _filled_up(arrays: Sequence[np.ndarray], value: float) -> np.ndarray:
    most = max(map(len, arrays))
    return np.stack(
        [
            np.concatenate([one, np.full((most - len(one), *one.shape[1:]), value, one.dtype)])
            for one in arrays
        ]
    )
