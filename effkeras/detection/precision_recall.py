"""Precision, recall and F1 of detections at IoU 0.5, and the score at which F1 is highest.

A detection is right if it is matched with a true box of its class at IoU 0.5 or more (`average_precision`).
Classes are pooled by counting their boxes together, so that every box counts once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from effkeras.detection.average_precision import IOUS, ClassMatches

IOU = 0.5
_AT = int(np.flatnonzero(IOUS == IOU)[0])
_DIGITS = 4  # decimals of a threshold, where they separate the scores


@dataclass(frozen=True, slots=True)
class Counted:
    """Numbers of right detections, of detections and of true boxes."""

    right: int
    found: int
    truths: int

    @property
    def precision(self) -> float:
        """The share of detections that are right; 0 without detections."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """The share of true boxes that are found; 0 without true boxes."""
        return self.right / self.truths if self.truths else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 where both are."""
        both = self.found + self.truths
        return 2 * self.right / both if both else 0.0

    def metrics(self) -> dict[str, float]:
        """The three figures by name."""
        return {"precision": self.precision, "recall": self.recall, "F1": self.f1}


@dataclass(frozen=True, eq=False, slots=True)
class ScoreCurve:
    """The counts at every threshold: for each different score, of the detections with at least this score.

    `scores` is float32 (n,), descending; `right` and `found` are int64 (n,). `truths` is the number of true
    boxes.
    """

    scores: np.ndarray
    right: np.ndarray
    found: np.ndarray
    truths: int

    @classmethod
    def of(cls, classes: Iterable[ClassMatches]) -> ScoreCurve:
        """The curve of one class, or of several together."""
        classes = list(classes)
        scores, right, counts = (
            np.concatenate([np.zeros(0, kind), *parts])
            for kind, parts in (
                (np.float32, [one.scores for one in classes]),
                (bool, [one.right[_AT] for one in classes]),
                (bool, [one.counts[_AT] for one in classes]),
            )
        )
        order = np.argsort(-scores, kind="stable")
        order = order[counts[order]]
        scores, right = scores[order], right[order]
        last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else order
        truths = sum(int(one.truths.sum()) for one in classes)
        return cls(scores[last], np.cumsum(right, dtype=np.int64)[last], last + 1, truths)

    @property
    def precision(self) -> np.ndarray:
        """Precision at each score, (n,)."""
        return self.right / self.found

    @property
    def recall(self) -> np.ndarray:
        """Recall at each score, (n,)."""
        return self.right / max(self.truths, 1)

    @property
    def f1(self) -> np.ndarray:
        """F1 at each score, (n,)."""
        return 2 * self.right / (self.found + self.truths)

    def arrays(self) -> dict[str, np.ndarray]:
        """`score`, `precision`, `recall` and `f1`, each (n,)."""
        return {"score": self.scores, "precision": self.precision, "recall": self.recall, "f1": self.f1}

    def at(self, threshold: float) -> Counted:
        """The counts of the detections with at least this score."""
        count = int((self.scores >= threshold).sum())
        right, found = (int(one[count - 1]) if count else 0 for one in (self.right, self.found))
        return Counted(right, found, self.truths)

    def best(self) -> float | None:
        """The threshold with the highest F1; None if no detection is right.

        It lies between two scores, in the middle, with few decimals; of equals it is the highest.
        """
        if not self.right.any():
            return None
        place = int(self.f1.argmax())
        here = float(self.scores[place])
        below = float(self.scores[place + 1]) if place + 1 < len(self.scores) else 0.0
        middle = round((here + below) / 2, _DIGITS)
        return middle if below < middle <= here else here
