"""Non-maximum suppression, soft and hard (EfficientDet reference post-processing).

Suppression ignores classes. Soft suppression is the Gaussian kind of Bodla et al. 2017, as computed by
TensorFlow's NonMaxSuppressionV5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from effkeras.definitions.definition import ModelSpec, NmsSpec, detector_parts
from effkeras.detection.anchors import anchor_boxes
from effkeras.detection.boxes import clip, decode, iou

# The reference uses at most this many anchors of an image (`MAX_DETECTION_POINTS`).
MAX_CANDIDATES = 5000

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
        kept = self.scores >= score
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
    rows = _strongest(class_logits.max(axis=-1), MAX_CANDIDATES)
    return rows, classes[rows]


def suppress(boxes: np.ndarray, scores: np.ndarray, nms: NmsSpec) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the kept boxes by descending score, and their scores, which soft NMS lowers."""
    threshold = nms.score_threshold if nms.method == "gaussian" else -np.inf
    alive = np.flatnonzero(scores > threshold)
    boxes, scores = boxes[alive], scores[alive].astype(np.float32)
    chosen: list[int] = []
    kept: list[np.float32] = []
    while len(chosen) < nms.max_detections and len(scores):
        best = int(scores.argmax())
        chosen.append(int(alive[best]))
        kept.append(scores[best])
        scores = _lower(scores, iou(boxes[best], boxes), nms)
        scores[best] = -np.inf
        # Scores only decrease, so boxes below the threshold can be removed now.
        left = scores > threshold
        alive, boxes, scores = alive[left], boxes[left], scores[left]
    return np.array(chosen, np.int64), np.array(kept, np.float32)


def _lower(scores: np.ndarray, overlaps: np.ndarray, nms: NmsSpec) -> np.ndarray:
    if nms.method == "gaussian":
        return scores * np.exp(overlaps * overlaps * np.float32(-1 / nms.sigma))
    return np.where(overlaps > nms.iou_threshold, np.float32(-np.inf), scores)


def _strongest(scores: np.ndarray, count: int) -> np.ndarray:
    if len(scores) <= count:
        return np.arange(len(scores))
    return np.sort(np.argpartition(-scores, count)[:count])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(np.float32(0), -x))  # 1 / (1 + exp(-x)) overflows below -88
