"""Evaluates models on labelled images, with the same code for a Keras model and its artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from effkeras.data.classes import matched
from effkeras.data.preprocess import Placed, Placement, filled
from effkeras.data.reading import RecordReader, UnusableImages
from effkeras.data.records import LabelledData
from effkeras.definitions.definition import ModelSpec, detector_parts
from effkeras.detection.boxes import level_sizes
from effkeras.inference.predictor import Predictor
from effkeras.inference.task import Breakdown, Judge, Outputs, Record, tasks_of
from effkeras.support.ahead import cores, mapped_ahead
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import MEMORY_BUDGET

BATCH = 32
READERS = 8  # threads at most that read images


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Images as network input, float32 (B, H, W, 3), and the placement of each in the input."""

    records: list
    pixels: np.ndarray
    placements: list[Placement]


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """The metrics of a model on some images, and the judges that computed them, by task.

    Unusable images are left out.
    """

    metrics: dict[str, float]
    judges: Mapping[str, Judge]

    def breakdowns(self, score: float | None = None) -> dict[str, Breakdown]:
        """Further metrics of each task, by class too; see `Judge.breakdown`."""
        return {name: judge.breakdown(score) for name, judge in self.judges.items()}


def headline(spec: ModelSpec) -> str:
    """The main metric of a model: that of its first task."""
    return headlines(spec)[0]


def headlines(spec: ModelSpec) -> tuple[str, ...]:
    """The main metrics of a model, one per task."""
    return tuple(task.metric for task in tasks_of(spec).values())


def evaluate(
    predictor: Predictor, data: LabelledData, *, limit: int | None = None, title: str = "evaluating"
) -> dict[str, float]:
    """Measures a model on labelled images.

    Args:
        predictor: a Keras model or an artifact.
        data: images with boxes for a detector, read with their masks if it segments; images with one class
            each for a classifier. Its classes are matched with the model's by name, in any order.
        limit: measure on the first `limit` images only.
        title: the text of the progress bar.

    Returns:
        A detector's COCO metrics (`AP`, `AP50`, ...); for masks `mIoU` and `pixels` (the share with the
        right class), measured at the resolution of the images; a classifier's `top1` and `top5`; all 0..1.

    Raises:
        EffkerasError: the model and the data do not fit, or too many images are unreadable.
    """
    return evaluate_in_detail(predictor, data, limit=limit, title=title).metrics


def evaluate_in_detail(
    predictor: Predictor, data: LabelledData, *, limit: int | None = None, title: str = "evaluating"
) -> Evaluation:
    """Like `evaluate`, but also returns the judges."""
    data = matched(data, predictor.spec)
    return _evaluated(predictor, data, _batches(predictor.spec, data, limit, title))


def evaluate_batches(predictor: Predictor, data: LabelledData, batches: Iterable[Batch]) -> dict[str, float]:
    """Like `evaluate`, for images in memory: records of `data`, placed for the predictor's input.

    The data must be in the model's classes: see `effkeras.data.classes.matched`.
    """
    return _evaluated(predictor, data, batches).metrics


def _evaluated(predictor: Predictor, data: LabelledData, batches: Iterable[Batch]) -> Evaluation:
    """Judges each batch while the predictor runs on the next one, and while that after it is read."""
    spec = predictor.spec
    judges = {name: task.judge(spec, data) for name, task in tasks_of(spec).items()}

    def outputs_of(batch: Batch) -> tuple[Sequence[Record], list[Placement], Outputs]:
        return batch.records, batch.placements, predictor(batch.pixels)

    with closing(mapped_ahead(outputs_of, batches, ahead=1)) as found:
        for records, placements, outputs in found:
            for position, (record, placement) in enumerate(zip(records, placements, strict=True)):
                one = {name: values[position] for name, values in outputs.items()}
                for judge in judges.values():
                    judge.add(record, placement, one)
    metrics = {name: value for judge in judges.values() for name, value in judge.metrics().items()}
    return Evaluation(metrics, judges)


def _batches(spec: ModelSpec, data: LabelledData, limit: int | None, title: str) -> Iterator[Batch]:
    records: Sequence[Record] = data.records[:limit]
    unusable = UnusableImages(data, len(records))
    reader = RecordReader(spec.input)

    def read(record: Record) -> Placed | EffkerasError:
        try:
            return reader.read(record)
        except EffkerasError as error:
            return error

    size = _batch_size(spec)
    chunks = [records[start : start + size] for start in range(0, len(records), size)]
    with closing(mapped_ahead(read, records, ahead=size, threads=min(READERS, cores()))) as read_images:
        for chunk in track(chunks, title):
            batch = _batch(spec, zip(chunk, read_images, strict=False), unusable)
            unusable.check()
            if batch.records:
                yield batch
    unusable.note()
    reader.note_remarks(len(records))


def _batch(
    spec: ModelSpec, read_images: Iterable[tuple[Record, Placed | EffkerasError]], unusable: UnusableImages
) -> Batch:
    kept, placed = [], []
    for record, found in read_images:
        if isinstance(found, EffkerasError):
            unusable.add(record.path, found)
            continue
        kept.append(record)
        placed.append(found)
    return Batch(kept, filled([one.content for one in placed], spec.input), [one.placement for one in placed])


def _batch_size(spec: ModelSpec) -> int:
    """`BATCH`, or fewer images where two batches with their outputs would need too much memory."""
    height, width = spec.input.size
    values = 3 * height * width
    if spec.detects:
        anchors = detector_parts(spec).anchors
        places = sum(rows * columns for rows, columns in level_sizes(spec))
        values += places * anchors.octaves * len(anchors.aspect_ratios) * (spec.classes + 4)
    return max(1, min(BATCH, MEMORY_BUDGET // (2 * 4 * values)))
