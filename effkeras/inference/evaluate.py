"""Measures a model on labelled images; a Keras model and its artifacts go through the same code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effkeras.data.classes import matched
from effkeras.data.images import RecordReader, note_skipped, refuse_bad
from effkeras.data.preprocess import Placement, fill
from effkeras.data.records import LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.predictor import Predictor
from effkeras.inference.task import Judge, Record, tasks_of
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError

BATCH = 32


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Images as a network takes them: float32 (B, H, W, 3), and how each was placed there."""

    records: list
    pixels: np.ndarray
    placements: list[Placement]


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """The metrics of a model on some images, and the judges that computed them, by task.

    Images that cannot be used are left out.
    """

    metrics: dict[str, float]
    judges: Mapping[str, Judge]


def headline(spec: ModelSpec) -> str:
    """The metric that a model is judged by first."""
    return headlines(spec)[0]


def headlines(spec: ModelSpec) -> tuple[str, ...]:
    """The metrics that a model is judged by, one for each task."""
    return tuple(task.metric for task in tasks_of(spec).values())


def evaluate(
    predictor: Predictor, data: LabelledData, *, limit: int | None = None, title: str = "evaluating"
) -> dict[str, float]:
    """Measures a model on labelled images.

    Args:
        predictor: a Keras model or an artifact.
        data: images with boxes for a detector, read with their masks when it segments; with one class
            each for a classifier. Its classes are matched with the model's: by name, whatever their order.
        limit: measure on the first `limit` images only.
        title: the text of the progress bar.

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


def _batches(spec: ModelSpec, records: Sequence[Record], title: str) -> Iterator[Batch]:
    bad: list[str] = []
    reader = RecordReader(spec.input)
    chunks = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    for chunk in track(chunks, title):
        batch = _read(reader, spec, chunk, bad)
        refuse_bad(bad, len(records))
        if batch.records:
            yield batch
    note_skipped(bad, len(records))
    reader.note_rescaled(len(records))


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
