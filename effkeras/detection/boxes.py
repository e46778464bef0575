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


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4), broadcast against each other; 0 where both are empty.

    Equal pairs have equal bits, whatever the shapes and the order.
    """
    first, second = (np.ascontiguousarray(np.moveaxis(one, -1, 0)) for one in (boxes, others))
    height = np.minimum(first[2], second[2]) - np.maximum(first[0], second[0])
    width = np.minimum(first[3], second[3]) - np.maximum(first[1], second[1])
    overlap = np.maximum(height, 0) * np.maximum(width, 0)
    union = areas(boxes) + areas(others) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes clipped to an image of (height, width)."""
    height, width = size
    return np.clip(boxes, 0, np.array([height, width, height, width], boxes.dtype))
