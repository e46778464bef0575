"""Box operations in numpy; boxes are (..., 4): ymin, xmin, ymax, xmax."""

from __future__ import annotations

import numpy as np


def decode(deltas: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Decodes ty, tx, th, tw relative to anchors into boxes (Faster R-CNN coding, no scale factors).

    Args:
        deltas: (..., N, 4).
        anchors: (N, 4) in pixels.

    Returns:
        (..., N, 4) in pixels, not clipped to the image.
    """
    sizes = anchors[:, 2:] - anchors[:, :2]
    centers = deltas[..., :2] * sizes + (anchors[:, :2] + anchors[:, 2:]) / 2
    half = np.exp(deltas[..., 2:]) * sizes / 2
    return np.concatenate([centers - half, centers + half], axis=-1)


def encode(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The inverse of `decode`, row by row: (N, 4) boxes of positive size to (N, 4) deltas."""
    sizes = anchors[:, 2:] - anchors[:, :2]
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    offsets = ((boxes[:, :2] + boxes[:, 2:]) / 2 - centers) / sizes
    return np.concatenate([offsets, np.log((boxes[:, 2:] - boxes[:, :2]) / sizes)], axis=-1)


def areas(boxes: np.ndarray) -> np.ndarray:
    """Areas (...,) in square pixels; 0 for boxes with negative height or width."""
    height = np.maximum(boxes[..., 2] - boxes[..., 0], 0)
    return height * np.maximum(boxes[..., 3] - boxes[..., 1], 0)


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box (4,) with each of (N, 4); 0 where both are empty."""
    ymin, xmin, ymax, xmax = boxes.T
    height = np.minimum(box[2], ymax) - np.maximum(box[0], ymin)
    width = np.minimum(box[3], xmax) - np.maximum(box[1], xmin)
    overlap = np.maximum(height, 0) * np.maximum(width, 0)
    union = areas(box) + areas(boxes) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes clipped to an image of (height, width)."""
    height, width = size
    return np.clip(boxes, 0, np.array([height, width, height, width], boxes.dtype))
