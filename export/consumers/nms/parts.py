"""What the ways to suppress boxes inside an artifact have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from effkeras.definitions.definition import ModelSpec, NmsSpec
from effkeras.detection.anchors import anchor_boxes
from effkeras.litert.editor import Value


@dataclass(frozen=True, slots=True)
class Heads:
    """The float32 heads of a detector: `logits` (1, N, classes) and `deltas` (1, N, 4)."""

    logits: Value
    deltas: Value


@dataclass(frozen=True, eq=False, slots=True)
class Settings:
    """How to suppress: `anchors` float32 (N, 4) as ycenter, xcenter, height, width in 0..1 of the input."""

    anchors: np.ndarray
    nms: NmsSpec


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left, best first: `boxes` (1, M, 4) in 0..1 of the input, not clipped; `scores` and `classes`
    (1, M); `count` (1,) says how many rows count. The rows after those may hold anything.
    """

    boxes: Value
    scores: Value
    classes: Value
    count: Value


def centered_anchors(spec: ModelSpec) -> np.ndarray:
    """All anchors, float32 (N, 4): ycenter, xcenter, height, width in 0..1 of the network's input."""
    boxes = anchor_boxes(spec).astype(np.float64) / np.tile(spec.input.size, 2)
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([centers, sizes], axis=1).astype(np.float32)
