"""Which classes a detector takes for which: detections and true boxes in pairs at IoU 0.5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from effkeras.data.records import DetectionRecord
from effkeras.detection.average_precision import greedy_pairs, overlaps
from effkeras.detection.nms import Detections
from effkeras.detection.precision_recall import IOU


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
