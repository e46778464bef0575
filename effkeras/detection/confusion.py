"""Which classes a detector takes for which, and which kinds of errors it makes and what each costs in AP50.

Detections and true boxes are pairs at IoU 0.5. The kinds are those of TIDE (Bolya et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from effkeras.data.records import DetectionData, DetectionRecord
from effkeras.detection.average_precision import Matches, greedy_pairs, overlaps
from effkeras.detection.nms import Detections
from effkeras.detection.precision_recall import IOU

RIGHT, CLASS, DUPLICATE, PLACE, BOTH, NOTHING = range(6)
KINDS = {
    CLASS: "right place, wrong class",
    DUPLICATE: "second box of an object",
    PLACE: "right class, poor overlap",
    BOTH: "wrong class, poor overlap",
    NOTHING: "nothing is labelled there",
}
# Below this IoU a detection has nothing to do with a true box.
_TOUCHES = 0.1


@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """The detections of an image and its true boxes: which belong together.

    `truth_of` is int64 (n,): for each detection the true box that it found, of its class or another; -1 for
    none, -2 for a crowd, which counts neither way. `is_missed` is bool (m,): true boxes that no detection of
    their class found.
    """

    truth_of: np.ndarray
    is_missed: np.ndarray

    @classmethod
    def of(cls, record: DetectionRecord, found: Detections) -> Pairs:
        """Pairs boxes of one class first, as AP does, and then what is left, whatever its class."""
        crowd = record.crowd
        shares = overlaps(found.boxes.astype(float), record.boxes.astype(float), crowd)
        truth_of = np.full(len(found), -1, np.int64)
        for label in np.unique(found.classes):
            rows = np.flatnonzero(found.classes == label)
            rows = rows[np.argsort(-found.scores[rows], kind="stable")]
            columns = np.flatnonzero(record.classes == label)
            columns = columns[np.argsort(crowd[columns], kind="stable")]
            for row, column in greedy_pairs(shares[np.ix_(rows, columns)], crowd[columns], IOU):
                truth = columns[column]
                truth_of[rows[row]] = -2 if crowd[truth] else truth
        is_missed = ~crowd
        is_missed[truth_of[truth_of >= 0]] = False
        rows = np.flatnonzero(truth_of == -1)
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        columns = np.flatnonzero(is_missed)
        for row, column in greedy_pairs(shares[np.ix_(rows, columns)], crowd[columns], IOU):
            truth_of[rows[row]] = columns[column]
        return cls(truth_of, is_missed)


def confusion(record: DetectionRecord, found: Detections, classes: int) -> np.ndarray:
    """The counts of an image by true class (rows) and class found (columns), int64 (classes + 1, same).

    The last row are detections where there is nothing, the last column true boxes that were not found. The
    diagonal are the right detections of `precision_recall`.
    """
    pairs = Pairs.of(record, found)
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    paired = pairs.truth_of >= 0
    np.add.at(counts, (record.classes[pairs.truth_of[paired]], found.classes[paired]), 1)
    np.add.at(counts, (classes, found.classes[pairs.truth_of == -1]), 1)
    left = ~record.crowd
    left[pairs.truth_of[paired]] = False
    np.add.at(counts, (record.classes[left], classes), 1)
    return counts


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """The wrong detections of a kind: how many from the threshold on, and AP50 without all of the kind."""

    name: str
    count: int
    ap50_without: float


def kinds_of(record: DetectionRecord, found: Detections) -> np.ndarray:
    """The kind of each detection of an image, int64 (n,): `RIGHT` or a key of `KINDS`.

    A crowd counts neither way, so what is found in it is right.
    """
    pairs = Pairs.of(record, found)
    kinds = np.full(len(found), NOTHING, np.int64)
    boxes, crowd = record.boxes.astype(float), record.crowd
    shares = overlaps(found.boxes.astype(float), boxes, crowd)
    own = np.where(record.classes == found.classes[:, None], shares, 0.0).max(axis=1, initial=0.0)
    kinds[shares.max(axis=1, initial=0.0) >= _TOUCHES] = BOTH
    kinds[own >= _TOUCHES] = PLACE
    kinds[own >= IOU] = DUPLICATE
    is_paired = pairs.truth_of >= 0
    kinds[is_paired] = CLASS
    is_right = is_paired.copy()
    is_right[is_paired] = record.classes[pairs.truth_of[is_paired]] == found.classes[is_paired]
    kinds[is_right | (pairs.truth_of == -2)] = RIGHT
    return kinds


def error_kinds(
    data: DetectionData, found: Mapping[int, Detections], kinds: Mapping[int, np.ndarray], score: float
) -> tuple[ErrorKind, ...]:
    """The kinds of errors among the detections of some images from a threshold on, the costliest first.

    `found` and `kinds` (see `kinds_of`) are by image id; `score` is the threshold.
    """
    errors = []
    for kind, name in KINDS.items():
        wrong = {key: kinds[key] == kind for key in found}
        count = sum(int((wrong[key] & (one.scores >= score)).sum()) for key, one in found.items())
        if count:
            errors.append(
                ErrorKind(name, count, _ap50(data, {k: f.where(~wrong[k]) for k, f in found.items()}))
            )
    return tuple(sorted(errors, key=lambda one: -one.ap50_without))


def _ap50(data: DetectionData, found: Mapping[int, Detections]) -> float:
    values = [float(of_iou[0]) for of_iou in Matches.of(data, found).average_precisions().values()]
    return float(np.mean(values)) if values else 0.0
