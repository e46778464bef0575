"""The images of a search: each process reads them once and keeps them in memory for all candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from effkeras.data.classes import matched_to
from effkeras.data.masks import MaskClasses, classes_of
from effkeras.data.preprocess import Placed, fill
from effkeras.data.reading import RecordReader, UnusableImages
from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData, ReadOptions
from effkeras.data.splits import find_split, read_split, spread
from effkeras.data.store import ImageStore, padded
from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.inference.evaluate import BATCH, Batch
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import MEMORY_BUDGET

# The most input sizes whose images are kept at once; the input size may be a gene.
_SIZES = 3

Samples = tuple[tf.Tensor, ...]
PlacedRecord = tuple[DetectionRecord | ClassificationRecord, Placed]


@dataclass(frozen=True, slots=True)
class Splits:
    """The data for training and for measuring accuracy; both use the classes of the training split."""

    train: LabelledData
    validation: LabelledData


def open_splits(root: Path, options: ReadOptions | None = None) -> Splits:
    """The splits train and val of a data set.

    Raises EffkerasError when one of them is missing or invalid. A search does not use the test split.
    """
    train, validation = find_split(root, "train") or "train", find_split(root, "val")
    options = options or ReadOptions()
    data = read_split(root, train, options)
    if validation is None:
        raise EffkerasError(f"{root} has no split val: a search compares candidates on it; split one off")
    return Splits(data, matched_to(read_split(root, validation, options), data))


@dataclass(frozen=True, eq=False, slots=True)
class _Loaded:
    samples: Samples
    placed: list[PlacedRecord]


@dataclass(slots=True)
class SearchImages:
    """Both splits at the input size of any network; caches the images by size.

    At most `train_limit` and `validation_limit` images are used, spread over the data; 0 means all.
    """

    splits: Splits
    train_limit: int = 0
    validation_limit: int = 0
    _loaded: dict[tuple[InputSpec, MaskClasses | None], _Loaded] = field(default_factory=dict)

    def training(self, spec: ModelSpec) -> Samples:
        """All training images: the fields of `Sample`, each with the images along the first axis.

        Raises EffkerasError when they do not fit into memory or cannot be read.
        """
        return self._load(spec).samples

    def validation(self, spec: ModelSpec) -> list[Batch]:
        """All validation images as float pixels; not cached, as they take four times the memory."""
        placed = self._load(spec).placed
        chunks = [placed[start : start + BATCH] for start in range(0, len(placed), BATCH)]
        return [_batch(chunk, spec.input) for chunk in chunks]

    def _load(self, spec: ModelSpec) -> _Loaded:
        key = (spec.input, classes_of(spec, self.splits.train))
        if key not in self._loaded:
            while len(self._loaded) >= _SIZES:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = self._read(*key)
        return self._loaded[key]

    def _read(self, spec: InputSpec, masks: MaskClasses | None) -> _Loaded:
        train = _limited(self.splits.train, self.train_limit)
        validation = _limited(self.splits.validation, self.validation_limit)
        _check_size(len(train.records) + len(validation.records), spec)
        return _Loaded(_stacked(ImageStore(train, spec, masks)), _placed(validation, spec))


def _limited(data: LabelledData, limit: int) -> LabelledData:
    return spread(data, limit) if limit else data


def _check_size(images: int, spec: InputSpec) -> None:
    needed = images * spec.size[0] * spec.size[1] * 4
    if needed > MEMORY_BUDGET:
        raise EffkerasError(
            f"{images:,} images of {spec.size[0]} x {spec.size[1]} need {needed / 2**30:.1f} GiB, and a "
            f"search holds {MEMORY_BUDGET // 2**30} in memory; use fewer images or smaller ones"
        )


def _stacked(store: ImageStore) -> Samples:
    return tuple(map(tf.constant, padded([store[index] for index in range(len(store))])))


def _placed(data: LabelledData, spec: InputSpec) -> list[PlacedRecord]:
    placed, unusable, reader = [], UnusableImages(data), RecordReader(spec)
    for record in data.records:
        try:
            placed.append((record, reader.read(record)))
        except EffkerasError as error:
            unusable.add(record.path, error)
    unusable.note()
    reader.note_remarks(len(data.records))
    return placed


def _batch(chunk: Sequence[PlacedRecord], spec: InputSpec) -> Batch:
    pixels = np.stack([fill(placed.content, spec) for _, placed in chunk])
    return Batch([record for record, _ in chunk], pixels, [placed.placement for _, placed in chunk])
