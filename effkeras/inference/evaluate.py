"""One metric for every kind of model: a Keras model and its artifacts go through the same code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from effkeras.data.classes import matched
from effkeras.data.images import RecordReader, tolerated
from effkeras.data.masks import MaskClasses, label_map
from effkeras.data.preprocess import Placement, fill
from effkeras.data.records import (
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
    LabelledData,
)
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.coco_metrics import coco_metrics
from effkeras.detection.nms import Decoder, Detections
from effkeras.detection.segmentation import Confusion, decode_mask
from effkeras.inference.predictor import Predictor
from effkeras.support.console import note, track
from effkeras.support.errors import EffkerasError

BATCH = 32

Record = DetectionRecord | ClassificationRecord


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Images as a network takes them: float32 (B, H, W, 3), and how each was placed there."""

    records: list
    pixels: np.ndarray
    placements: list[Placement]


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """The metrics of a model on some images, and what they are made of, image by image.

    `ranks` are those of the true classes under a classifier; images that cannot be used are left out. `found`
    is what a detector finds, by image id, in image pixels.
    """

    metrics: dict[str, float]
    ranks: ClassRanks | None = None
    found: Mapping[int, Detections] | None = None


def headline(spec: ModelSpec) -> str:
    """The metric that a model is judged by, above all."""
    return headlines(spec)[0]


def headlines(spec: ModelSpec) -> tuple[str, ...]:
    """The metrics that a model is judged by, one for each of a detector's heads."""
    by_head = {"AP": spec.detects, "mIoU": spec.segments}
    return tuple(name for name, counts in by_head.items() if counts) or ("top1",)


def evaluate(
    predictor: Predictor, data: LabelledData, *, limit: int | None = None, title: str = "evaluating"
) -> dict[str, float]:
    """Measures a model on labelled images.

    Args:
        predictor: a Keras model or an artifact.
        data: images with boxes for a detector, read with their masks when it segments; with one class
            each for a classifier. Its classes are matched with the model's: by name, whatever their order.
        limit: measure on the first `limit` images only.
        title: what the progress bar says.

    Returns:
        A detector's COCO metrics (`AP`, `AP50`, ...), of masks `mIoU` and `pixels` (the share with the
        right class), judged in the pixels of the images; a classifier's `top1` and `top5`; all in 0..1.

    Raises:
        EffkerasError: the model and the data do not fit, or too many images cannot be read.
    """
    return evaluate_in_detail(predictor, data, limit=limit, title=title).metrics


def evaluate_in_detail(
    predictor: Predictor, data: LabelledData, *, limit: int | None = None, title: str = "evaluating"
) -> Evaluation:
    """`evaluate`, with what the metrics are made of."""
    data = matched(data, predictor.spec)
    return _evaluated(predictor, data, _batches(predictor.spec, data.records[:limit], title))


def evaluate_batches(predictor: Predictor, data: LabelledData, batches: Iterable[Batch]) -> dict[str, float]:
    """`evaluate` for images that are there already: records of `data`, placed for the predictor's input.

    The data is in the model's classes: see `effkeras.data.classes.matched`.
    """
    return _evaluated(predictor, data, batches).metrics


def _evaluated(predictor: Predictor, data: LabelledData, batches: Iterable[Batch]) -> Evaluation:
    if isinstance(data, DetectionData):
        return _judge_all(predictor, data, batches)
    ranks = _class_ranks(predictor, batches)
    metrics = {f"top{count}": float(ranks.top(count).mean()) for count in (1, 5)}
    return Evaluation(metrics, ranks=ranks)


def _judge_all(predictor: Predictor, data: DetectionData, batches: Iterable[Batch]) -> Evaluation:
    spec = predictor.spec
    boxes = _BoxJudge(spec, data) if spec.detects else None
    judges: list[_Judge] = [] if boxes is None else [boxes]
    judges += [_MaskJudge(spec, data)] if spec.segments else []
    _show_all(predictor, judges, batches)
    metrics = {name: value for judge in judges for name, value in judge.metrics().items()}
    return Evaluation(metrics, found=None if boxes is None else boxes.found)


def _show_all(predictor: Predictor, judges: Sequence[_Judge], batches: Iterable[Batch]) -> None:
    """Runs a detector on images and shows each judge what it says."""
    for batch in batches:
        outputs = predictor(batch.pixels)
        for position, (record, placement) in enumerate(zip(batch.records, batch.placements, strict=True)):
            one = {name: values[position] for name, values in outputs.items()}
            for judge in judges:
                judge.add(record, placement, one)


class _Judge(Protocol):
    """Gathers what a model says of one image after the other, and measures it."""

    def add(
        self, record: DetectionRecord, placement: Placement, outputs: Mapping[str, np.ndarray]
    ) -> None: ...

    def metrics(self) -> dict[str, float]: ...


class _BoxJudge:
    """COCO's metrics of boxes, in image pixels."""

    def __init__(self, spec: ModelSpec, data: DetectionData):
        self._data = data
        self._decoder = Decoder.of(spec)
        self.found: dict[int, Detections] = {}

    def add(self, record: DetectionRecord, placement: Placement, outputs: Mapping[str, np.ndarray]) -> None:
        one = self._decoder.found(outputs)
        boxes = placement.to_image(one.boxes)
        self.found[record.image_id] = Detections(boxes, one.scores, one.classes)

    def metrics(self) -> dict[str, float]:
        return coco_metrics(self._data, self.found)


class _MaskJudge:
    """Mean intersection over union, in image pixels."""

    def __init__(self, spec: ModelSpec, data: DetectionData):
        self._classes = MaskClasses.of(spec, data)
        self._confusion = Confusion(spec.mask_classes)

    def add(self, record: DetectionRecord, placement: Placement, outputs: Mapping[str, np.ndarray]) -> None:
        truth = label_map(record, self._classes, placement.size)
        self._confusion.add(truth, decode_mask(outputs["mask_logits"], placement))

    def metrics(self) -> dict[str, float]:
        return self._confusion.metrics()


@dataclass(frozen=True, eq=False, slots=True)
class ClassRanks:
    """Where a classifier puts the true class of each image.

    `better` (images,) counts the classes with a higher score, `tied` (images,) those with the same score,
    the true one among them. Scores of which one is NaN have no order: all classes count as better.
    """

    better: np.ndarray
    tied: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, labels: np.ndarray) -> ClassRanks:
        """Of scores (images, classes) and true classes (images,)."""
        own = np.take_along_axis(scores, labels[:, None], axis=-1)
        broken = np.isnan(scores).any(axis=-1)
        better = np.where(broken, np.inf, (scores > own).sum(axis=-1))
        return cls(better, np.maximum((scores == own).sum(axis=-1), 1))

    def top(self, count: int) -> np.ndarray:
        """The share of each image, float64 (images,), that is right among the `count` best classes.

        Classes that tie share the places that are left: few steps of an 8-bit output make ties common, and a
        constant output must be right by chance, not always or never.
        """
        return np.clip((count - self.better) / self.tied, 0.0, 1.0)


def _class_ranks(predictor: Predictor, batches: Iterable[Batch]) -> ClassRanks:
    found = []
    for batch in batches:
        (scores,) = predictor(batch.pixels).values()
        found.append(ClassRanks.of(scores, np.array([record.label for record in batch.records])))
    return ClassRanks(
        np.concatenate([one.better for one in found]), np.concatenate([one.tied for one in found])
    )


def _batches(spec: ModelSpec, records: Sequence[Record], title: str) -> Iterator[Batch]:
    bad: list[str] = []
    reader = RecordReader(spec.input)
    chunks = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    for chunk in track(chunks, title):
        batch = _read(reader, spec, chunk, bad)
        if not tolerated(len(bad), len(records)):
            raise EffkerasError(f"{len(bad)} of {len(records)} images cannot be used; the first: {bad[0]}")
        if batch.records:
            yield batch
    if bad:
        note(f"skipped {len(bad)} of {len(records)} images that cannot be used; the first: {bad[0]}")
    reader.tell(len(records))


def _read(reader: RecordReader, spec: ModelSpec, records: Sequence[Record], bad: list[str]) -> Batch:
    kept, pixels, placements = [], [], []
    for record in records:
        try:
            placed = reader.read(record)
        except EffkerasError as error:
            bad.append(str(error))
            continue
        kept.append(record)
        pixels.append(fill(placed.content, spec.input))
        placements.append(placed.placement)
    return Batch(kept, np.array(pixels, np.float32), placements)
