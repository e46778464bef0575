"""Evaluates models on labelled images, with the same code for a Keras model and its artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effkeras.data.classes import matched
from effkeras.data.preprocess import Placement, fill
from effkeras.data.reading import RecordReader, UnusableImages
from effkeras.data.records import LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.predictor import Predictor
from effkeras.inference.task import Breakdown, Judge, Record, tasks_of
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError

BATCH = 32


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
    spec = predictor.spec
    judges = {name: task.judge(spec, data) for name, task in tasks_of(spec).items()}
    for batch in batches:
        outputs = predictor(batch.pixels)
        for position, (record, placement) in enumerate(zip(batch.records, batch.placements, strict=True)):
            one = {name: values[position] for name, values in outputs.items()}
            for judge in judges.values():
                judge.add(record, placement, one)
    metrics = {name: value for judge in judges.values() for name, value in judge.metrics().items()}
    return Evaluation(metrics, judges)


def _batches(spec: ModelSpec, data: LabelledData, limit: int | None, title: str) -> Iterator[Batch]:
    records = data.records[:limit]
    unusable = UnusableImages(data, len(records))
    reader = RecordReader(spec.input)
    chunks = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    for chunk in track(chunks, title):
        batch = _read(reader, spec, chunk, unusable)
        unusable.check()
        if batch.records:
            yield batch
    unusable.note()
    reader.note_remarks(len(records))


def _read(
    reader: RecordReader, spec: ModelSpec, records: Sequence[Record], unusable: UnusableImages
) -> Batch:
    kept, pixels, placements = [], [], []
    for record in records:
        try:
            placed = reader.read(record)
        except EffkerasError as error:
            unusable.add(record.path, error)
            continue
        kept.append(record)
        pixels.append(fill(placed.content, spec.input))
        placements.append(placed.placement)
    return Batch(kept, np.array(pixels, np.float32), placements)
