"""Why detections are wrong, after TIDE (Bolya et al. 2020), and what each kind of error costs in AP50."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from effkeras.data.records import DetectionData, DetectionRecord
from effkeras.detection.average_precision import Matches, overlaps
from effkeras.detection.confusion import Pairs
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
