"""Classification: one class per image, judged by top-1 and top-5 accuracy and by calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.data.preprocess import Placement
from effkeras.data.records import ClassificationRecord, LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.task import (
    TASKS,
    Breakdown,
    ClassValue,
    Describe,
    Details,
    Drawing,
    Example,
    Judge,
    Outcomes,
    Outputs,
    Record,
    Task,
    label_of,
    names_of,
)

BEST = 5  # classes in a predict record
COUNTS = (1, 5)
BINS = 15  # of the expected calibration error
PROBABILITIES = "probabilities"


class Classification(Task):
    """The classes with the highest scores."""

    model = "classifier"
    metric = "top1"
    meaning = "top1 is the share of images whose likeliest class is the right one; 1 is best."

    def applies(self, spec: ModelSpec) -> bool:
        """See `Task`."""
        return not spec.is_detector

    def describe(self, spec: ModelSpec, min_score: float) -> Describe:
        """See `Task`."""

        def run(outputs: Outputs, placement: Placement) -> dict[str, Any]:
            (scores,) = outputs.values()
            best = np.argsort(-scores, kind="stable")[:BEST]
            return {
                "classes": [
                    {"label": label_of(spec, i), "class": int(i), "score": float(scores[i])} for i in best
                ]
            }

        return run

    def draw(self, record: Mapping[str, Any], drawing: Drawing) -> None:
        """See `Task`."""
        for one in record.get("classes", [])[:1]:
            drawing.add_line(f"{one['label']} {one['score']:.2f}")

    def judge(self, spec: ModelSpec, data: LabelledData) -> Judge:
        """See `Task`."""
        return _Judge(self, names_of(data.labels))

    def outcomes(self, arrays: Mapping[str, np.ndarray]) -> Outcomes:
        """See `Task`."""
        right, labels, _ = (arrays[name] for name in ("right", "labels", "top"))

        def weighted(weights: np.ndarray) -> float:
            return float(right @ weights / weights.sum())

        return Outcomes(
            self.metric, len(right), weighted, arrays, self.metric, lambda: _by_class(right, labels)
        )


TASKS.register("classification")(Classification())


@dataclass(frozen=True, eq=False, slots=True)
class ClassRanks:
    """The rank of the true class of each image.

    `better` (images,) counts the classes with a higher score, `tied` (images,) those with the same score,
    the true one among them. NaN among the scores leaves no order: all classes count as better.
    """

    better: np.ndarray
    tied: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, labels: np.ndarray) -> ClassRanks:
        """The ranks for scores (images, classes) and true classes (images,)."""
        own = np.take_along_axis(scores, labels[:, None], axis=-1)
        broken = np.isnan(scores).any(axis=-1)
        better = np.where(broken, np.inf, (scores > own).sum(axis=-1))
        return cls(better, np.maximum((scores == own).sum(axis=-1), 1))

    def top(self, count: int) -> np.ndarray:
        """The share of each image, float64 (images,), that is correct among the `count` best classes.

        Tied classes share the remaining places. The few steps of an 8-bit output make ties common, and a
        constant output must be correct by chance, not always or never.
        """
        return np.clip((count - self.better) / self.tied, 0.0, 1.0)


def agreement(one: Outcomes, other: Outcomes) -> float | None:
    """The share of images for which two models have the same best class; None where they have none.

    Of classes that tie for the best, one that both have is enough.
    """
    tops = [outcomes.arrays.get("top") for outcomes in (one, other)]
    if tops[0] is None or tops[1] is None:
        return None
    return float((tops[0] & tops[1]).any(axis=-1).mean())


def _by_class(right: np.ndarray, labels: np.ndarray) -> dict[int, ClassValue]:
    return {
        int(label): ClassValue(float(right[labels == label].mean()), int((labels == label).sum()))
        for label in np.unique(labels)
    }


def calibration_error(confidences: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error (Guo et al. 2017): the gap between confidence and accuracy.

    Images are sorted into bins of equal width by the probability of their likeliest class; the error is the
    mean over images of the gap between their bin's mean confidence and its accuracy.

    Args:
        confidences: the probability of the likeliest class, 0..1, (images,).
        right: the share of each image that is right, 0..1, (images,).
        bins: the number of bins.
    """
    confidences = np.nan_to_num(confidences.astype(np.float64))
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(places, confidences - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


@dataclass(eq=False, slots=True)
class _Judge:
    """Top-1 and top-5 accuracy, and calibration; `tops` holds the best classes of each image, as bits."""

    task: Classification
    names: tuple[str, ...]
    found: list[ClassRanks] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    tops: list[np.ndarray] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)  # empty for a model that returns logits

    def add(self, record: Record, placement: Placement, outputs: Outputs) -> None:
        assert isinstance(record, ClassificationRecord)
        ((name, scores),) = outputs.items()
        self.found.append(ClassRanks.of(scores[None], np.array([record.label])))
        self.labels.append(record.label)
        self.paths.append(record.path)
        self.tops.append(np.packbits(scores == scores.max()))
        if name == PROBABILITIES:
            self.confidences.append(float(scores.max()))

    def metrics(self) -> dict[str, float]:
        ranks = self._ranks()
        return {f"top{count}": float(ranks.top(count).mean()) for count in COUNTS}

    def outcomes(self) -> Outcomes:
        arrays = {"labels": np.array(self.labels), "top": np.array(self.tops)}
        return self.task.outcomes({"right": self._ranks().top(1), **arrays})

    def details(self, score: float | None = None) -> Details:
        """See `Judge`. An image counts in equal shares for all classes that tie for the best."""
        count, right = len(self.names), self._ranks().top(1)
        tops = np.unpackbits(np.array(self.tops), axis=-1)[:, :count].astype(float)
        shares = tops / np.maximum(tops.sum(axis=-1, keepdims=True), 1)
        confusion = np.zeros((count, count))
        np.add.at(confusion, np.array(self.labels), shares)
        examples = tuple(
            self._example(path, label, float(share), np.flatnonzero(top))
            for path, label, share, top in zip(self.paths, self.labels, right, tops, strict=True)
        )
        return Details(self.names, confusion, examples=examples)

    def _example(self, path: Path, label: int, share: float, found: np.ndarray) -> Example:
        names = " or ".join(self.names[index] for index in found[:2]) or "nothing"
        line = names if share == 1 else f"{names}, not {self.names[label]}"
        nothing = np.zeros(0, np.int64)
        return Example(path, share, line, np.zeros((0, 4), np.float32), nothing, nothing.astype(bool))

    def breakdown(self, score: float | None = None) -> Breakdown:
        right, labels = self._ranks().top(1), np.array(self.labels)
        overall = {"ECE": calibration_error(np.array(self.confidences), right)} if self.confidences else {}
        images = np.bincount(labels, minlength=len(self.names))
        sums = np.bincount(labels, right, minlength=len(self.names))
        classes = {
            self.names[label]: {"images": int(images[label]), "top1": float(sums[label] / images[label])}
            for label in np.flatnonzero(images)
        }
        return Breakdown(overall, classes, worst="top1")

    def _ranks(self) -> ClassRanks:
        better, tied = ([getattr(one, name) for one in self.found] for name in ("better", "tied"))
        return ClassRanks(np.concatenate(better), np.concatenate(tied))
