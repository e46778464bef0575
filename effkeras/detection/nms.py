"""Non-maximum suppression, soft and hard (EfficientDet reference post-processing).

Suppression ignores classes. Soft suppression is the Gaussian kind of Bodla et al. 2017, as computed by
TensorFlow's NonMaxSuppressionV5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from effkeras.definitions.definition import ModelSpec, NmsSpec, detector_parts
from effkeras.detection.boxes import anchor_boxes, clip, decode, iou

# The reference uses at most this many anchors of an image (`MAX_DETECTION_POINTS`).
MAX_CANDIDATES = 5000

# Suppression begins with so many boxes, and with so many times as many where they do not suffice.
POOL = 256
GROWTH = 4
_AT_ONCE = 2**13  # pairs of boxes that are computed together

# The detector outputs that NMS needs.
HEADS = ("class_logits", "box_deltas")

# The outputs of an artifact with built-in NMS, by the names of TensorFlow's Object Detection API: boxes
# (n, 4) in 0..1 of the network's input, scores (n,), classes (n,), and the number of valid rows.
BOXES, SCORES, CLASSES, COUNT = (
    "detection_boxes",
    "detection_scores",
    "detection_classes",
    "num_detections",
)


@dataclass(frozen=True, eq=False, slots=True)
class Detections:
    """The detections in one image, by descending score.

    `boxes` is float32 (n, 4): ymin, xmin, ymax, xmax in pixels; `scores` float32 (n,); `classes` int64
    (n,), indices from 0.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> Detections:
        """The detections with at least this score."""
        return self.where(self.scores >= score)

    def where(self, kept: np.ndarray) -> Detections:
        """The detections of which `kept`, bool (n,), is true."""
        return Detections(self.boxes[kept], self.scores[kept], self.classes[kept])


@dataclass(frozen=True, eq=False, slots=True)
class Decoder:
    """Converts a detector's outputs to detections; one instance serves a model.

    `anchors` is (N, 4) and `size` the network's input (height, width), both in pixels.
    """

    anchors: np.ndarray
    size: tuple[int, int]
    nms: NmsSpec

    @classmethod
    def of(cls, spec: ModelSpec) -> Decoder:
        """The decoder of a detector's definition."""
        return cls(anchor_boxes(spec), spec.input.size, detector_parts(spec).nms)

    def __call__(self, class_logits: np.ndarray, box_deltas: np.ndarray) -> Detections:
        """Detections of one image from (N, classes) logits and (N, 4) deltas."""
        found = detect(class_logits, box_deltas, self.anchors, self.nms)
        return Detections(clip(found.boxes, self.size), found.scores, found.classes)

    def found(self, outputs: Mapping[str, np.ndarray]) -> Detections:
        """Detections of one image from all outputs: those of the heads, or of the artifact's built-in NMS."""
        if BOXES not in outputs:
            return self(outputs["class_logits"], outputs["box_deltas"])
        rows = slice(int(outputs[COUNT]))
        boxes = outputs[BOXES][rows] * np.tile(np.array(self.size, np.float32), 2)
        return Detections(
            clip(boxes, self.size), outputs[SCORES][rows], outputs[CLASSES][rows].astype(np.int64)
        )


def detect(class_logits: np.ndarray, box_deltas: np.ndarray, anchors: np.ndarray, nms: NmsSpec) -> Detections:
    """Detections of one image from its head outputs, not clipped to the image.

    Args:
        class_logits: (N, classes).
        box_deltas: (N, 4): ty, tx, th, tw.
        anchors: (N, 4) in pixels.
        nms: method and thresholds.
    """
    rows, classes = _candidates(class_logits, nms)
    scores = _sigmoid(class_logits[rows, classes].astype(np.float32))
    boxes = decode(box_deltas[rows].astype(np.float32), anchors[rows])
    chosen, kept_scores = suppress(boxes, scores, nms)
    return Detections(boxes[chosen], kept_scores, classes[chosen])


def _candidates(class_logits: np.ndarray, nms: NmsSpec) -> tuple[np.ndarray, np.ndarray]:
    """The candidate pairs of anchor and class, each pair once."""
    if nms.max_inputs:
        return np.divmod(_strongest(class_logits.ravel(), nms.max_inputs), class_logits.shape[1])
    classes = class_logits.argmax(axis=-1)
    rows = _strongest(class_logits[np.arange(len(classes)), classes], MAX_CANDIDATES)
    return rows, classes[rows]


def suppress(boxes: np.ndarray, scores: np.ndarray, nms: NmsSpec) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the kept boxes by descending score, and their scores, which soft NMS lowers.

    Each round takes the box with the highest score, of equals the first, and lowers the scores of all others.
    Only the `POOL` boxes with the highest first scores take part until others could matter. The result is
    the same: a score never rises, because suppression multiplies it by exp(-IoU^2 / sigma), which is at most
    1, or removes it. So the score of a box outside of the pool is now at most its first score, and that is at
    most the highest first score outside, the bound. While the highest score in the pool is above the bound,
    it is the highest of all, and no box outside equals it. Otherwise the pool grows, and the new boxes catch
    up: their scores are lowered by the same factors in the same order, hence to the same bits.
    """
    threshold = nms.score_threshold if nms.method == "gaussian" else -np.inf
    alive = np.flatnonzero(scores > threshold)
    boxes, scores = boxes[alive], scores[alive].astype(np.float32)
    order = np.argsort(-scores)
    size = min(POOL, len(order))
    pool = _Pool.of(np.sort(order[:size]), boxes, scores)
    chosen: list[int] = []
    kept: list[np.float32] = []
    while size and len(chosen) < nms.max_detections:
        best = int(pool.scores.argmax())
        score = pool.scores[best]
        if size < len(order) and score <= scores[order[size]]:
            pool = pool.grown(order[size : size * GROWTH], boxes, scores, chosen, nms)
            size = len(pool.places)
            continue
        if not score > threshold:
            break
        chosen.append(int(pool.places[best]))
        kept.append(score)
        _lower(pool.scores, pool.effect(best, nms), nms)
        pool.scores[best] = -np.inf
    return alive[np.array(chosen, np.int64)], np.array(kept, np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class _Pool:
    """Boxes in suppression, (n, 4): their places among all, and their scores as lowered so far.

    `effects` holds what a box does to the scores of all, by its position in the pool, as far as computed.
    """

    places: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    effects: dict[int, np.ndarray]

    @classmethod
    def of(cls, places: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> _Pool:
        """The boxes at ascending `places` of all, with their first scores."""
        return cls(places, boxes[places], scores[places], {})

    def effect(self, best: int, nms: NmsSpec) -> np.ndarray:
        """What a box does to the scores; computed together with those of the boxes that seem to come next."""
        if best not in self.effects:
            is_open = np.ones(len(self.places), bool)
            is_open[list(self.effects)] = False
            rows = np.flatnonzero(is_open)
            count = max(1, _AT_ONCE // len(self.places))
            rows = np.append(best, rows[np.argsort(-self.scores[rows])[:count]])
            self.effects.update(zip(rows.tolist(), _effects(self.boxes[rows], self.boxes, nms), strict=True))
        return self.effects[best]

    def grown(
        self, more: np.ndarray, boxes: np.ndarray, scores: np.ndarray, chosen: list[int], nms: NmsSpec
    ) -> _Pool:
        """With the boxes at `more` too, whose scores the boxes at `chosen` lower as they did the others."""
        late = scores[more]
        for effect in _effects(boxes[chosen], boxes[more], nms):
            _lower(late, effect, nms)
        now = scores.copy()
        now[self.places], now[more] = self.scores, late
        return _Pool.of(np.sort(np.concatenate([self.places, more])), boxes, now)


def _effects(chosen: np.ndarray, boxes: np.ndarray, nms: NmsSpec) -> np.ndarray:
    """What `chosen` boxes (m, 4) do to the scores of others (n, 4): factors, or whether they go, (m, n)."""
    overlaps = iou(chosen[:, None], boxes)
    if nms.method == "gaussian":
        return np.exp(overlaps * overlaps * np.float32(-1 / nms.sigma))
    return overlaps > nms.iou_threshold


def _lower(scores: np.ndarray, effect: np.ndarray, nms: NmsSpec) -> None:
    """Lowers scores (n,) by the effect (n,) of a box."""
    if nms.method == "gaussian":
        scores *= effect
    else:
        scores[effect > 0] = -np.inf


def _strongest(scores: np.ndarray, count: int) -> np.ndarray:
    if len(scores) <= count:
        return np.arange(len(scores))
    return np.sort(np.argpartition(-scores, count)[:count])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(np.float32(0), -x))  # 1 / (1 + exp(-x)) overflows below -88
