"""Detection: bounding boxes, judged by COCO's AP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from effkeras.data.preprocess import Placement
from effkeras.data.records import DetectionData, DetectionRecord, LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.average_precision import Matches
from effkeras.detection.coco_metrics import coco_metrics
from effkeras.detection.confusion import NOTHING, Pairs, confusion, error_kinds, kinds_of
from effkeras.detection.nms import Decoder, Detections
from effkeras.detection.precision_recall import ScoreCurve
from effkeras.inference.task import (
    TASKS,
    Breakdown,
    ClassValue,
    Closeup,
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

CLOSEUPS = 24  # detections where nothing is labelled that a report shows


class Detection(Task):
    """Bounding boxes after non-maximum suppression, in image pixels."""

    model = "detector"
    metric = "AP"
    meaning = "AP is COCO's: average precision over classes and overlaps (IoU) of 0.50 to 0.95; 1 is best."

    def applies(self, spec: ModelSpec) -> bool:
        """See `Task`."""
        return spec.detects

    def describe(self, spec: ModelSpec, min_score: float) -> Describe:
        """See `Task`."""
        decoder = Decoder.of(spec)

        def run(outputs: Outputs, placement: Placement) -> dict[str, Any]:
            found = _in_image(decoder.found(outputs).above(min_score), placement)
            return {"detections": _rows(found, spec)}

        return run

    def draw(self, record: Mapping[str, Any], drawing: Drawing) -> None:
        """See `Task`."""
        for one in record.get("detections", []):
            drawing.add_box(one["box"], f"{one['label']} {one['score']:.2f}", one["class"])

    def judge(self, spec: ModelSpec, data: LabelledData) -> Judge:
        """See `Task`."""
        assert isinstance(data, DetectionData)
        return DetectionJudge(self, Decoder.of(spec), data)

    def outcomes(self, arrays: Mapping[str, np.ndarray]) -> Outcomes:
        """See `Task`."""
        matches = Matches.from_arrays(arrays)
        return Outcomes(
            self.metric, matches.images, matches.average_precision, arrays, "AP50", lambda: _by_class(matches)
        )


TASKS.register("detection")(Detection())


@dataclass(eq=False, slots=True)
class DetectionJudge:
    """COCO's metrics of bounding boxes; `found` holds the detections by image id, in image pixels."""

    task: Detection
    decoder: Decoder
    data: DetectionData
    found: dict[int, Detections] = field(default_factory=dict)
    _matches: Matches | None = None

    def add(self, record: Record, placement: Placement, outputs: Outputs) -> None:
        """See `Judge`."""
        assert isinstance(record, DetectionRecord)
        self._matches = None
        self.found[record.image_id] = _in_image(self.decoder.found(outputs), placement)

    def metrics(self) -> dict[str, float]:
        """See `Judge`."""
        return coco_metrics(self.data, self.found)

    def outcomes(self) -> Outcomes:
        """See `Judge`."""
        return self.task.outcomes(self.matches().to_arrays())

    def matches(self) -> Matches:
        """The detections of all images, matched with the true boxes."""
        if self._matches is None:
            self._matches = Matches.of(self.data, self.found)
        return self._matches

    def highest(self) -> float:
        """The highest score of all detections; 0 without any."""
        return max((float(one.scores.max()) for one in self.found.values() if len(one)), default=0.0)

    def details(self, score: float | None = None) -> Details:
        """See `Judge`. The last row and column of the confusion matrix are the background."""
        matches = self.matches()
        everything = ScoreCurve.of(matches.classes.values())
        score = everything.best() if score is None else score
        threshold = float("inf") if score is None else score
        names = names_of(self.data.labels)
        counts = np.zeros((len(names) + 1, len(names) + 1), np.int64)
        examples, kinds, closeups = [], {}, []
        for record in self.data.records:
            if record.image_id not in self.found:
                continue
            record = record.with_unknown_as_crowds(len(names))
            found = self.found[record.image_id]
            kinds[record.image_id] = kinds_of(record, found)
            closeups += _unlabelled(record, found, kinds[record.image_id], threshold)
            found = found.above(threshold)
            counts += confusion(record, found, len(names))
            examples.append(_example(record, found))
        curves = {"": everything.arrays()} | {
            names[label]: ScoreCurve.of([one]).arrays()
            for label, one in matches.classes.items()
            if one.truths.any()
        }
        surest = sorted(closeups, key=lambda one: -one.score)[:CLOSEUPS]
        errors = error_kinds(self.data, self.found, kinds, threshold)
        return Details((*names, "background"), counts, curves, tuple(examples), errors, tuple(surest))

    def breakdown(self, score: float | None = None) -> Breakdown:
        """See `Judge`. A class without true boxes has no AP, and its detections are wrong."""
        matches = self.matches()
        everything = ScoreCurve.of(matches.classes.values())
        score = everything.best() if score is None else score
        threshold = float("inf") if score is None else score
        precisions, names = matches.average_precisions(), names_of(self.data.labels)
        classes: dict[str, dict[str, float]] = {}
        for label, one in matches.classes.items():
            found = ScoreCurve.of([one]).at(threshold)
            if not found.truths and not found.found:
                continue
            of_iou = precisions.get(label)
            areas = {} if of_iou is None else {"AP": float(of_iou.mean()), "AP50": float(of_iou[0])}
            classes[names[label]] = {"boxes": found.truths, **areas, **found.metrics()}
        return Breakdown(everything.at(threshold).metrics(), classes, score)


def _by_class(matches: Matches) -> dict[int, ClassValue]:
    precisions = matches.average_precisions()
    return {
        label: ClassValue(float(values[0]), int(matches.classes[label].truths.sum()))
        for label, values in precisions.items()
    }


def _example(record: DetectionRecord, found: Detections) -> Example:
    pairs = Pairs.of(record, found)
    own = np.append(record.classes, -1)[np.maximum(pairs.truth_of, -1)]
    right = int((own == found.classes).sum())
    wrong, missed = int((pairs.truth_of >= -1).sum()) - right, int(pairs.is_missed.sum())
    lost = np.flatnonzero(pairs.is_missed)
    return Example(
        record.path,
        2 * right / (2 * right + wrong + missed) if right + wrong + missed else 1.0,
        f"{right} right, {wrong} wrong, {missed} missed",
        np.concatenate([found.boxes, record.boxes[lost]]),
        np.concatenate([found.classes, record.classes[lost]]),
        np.concatenate([np.zeros(len(found), bool), np.ones(len(lost), bool)]),
    )


def _unlabelled(
    record: DetectionRecord, found: Detections, kinds: np.ndarray, threshold: float
) -> list[Closeup]:
    """The surest detections of an image where nothing is labelled."""
    places = np.flatnonzero((kinds == NOTHING) & (found.scores >= threshold))
    return [
        Closeup(
            record.path,
            found.boxes[place],
            int(found.classes[place]),
            float(found.scores[place]),
            record.boxes,
        )
        for place in places[np.argsort(-found.scores[places], kind="stable")][:CLOSEUPS]
    ]


def _in_image(found: Detections, placement: Placement) -> Detections:
    return Detections(placement.to_image(found.boxes), found.scores, found.classes)


def _rows(found: Detections, spec: ModelSpec) -> list[dict[str, Any]]:
    return [
        {
            "label": label_of(spec, int(label)),
            "class": int(label),
            "score": float(score),
            "box": [float(value) for value in box],
        }
        for box, score, label in zip(found.boxes, found.scores, found.classes, strict=True)
    ]
