"""Box operations in numpy, and anchor boxes (EfficientDet reference code, `anchors.py`).

Boxes are (..., 4): ymin, xmin, ymax, xmax.
"""

from __future__ import annotations

import numpy as np

from effkeras.definitions.definition import AnchorSpec, ModelSpec, detector_parts


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


def anchor_boxes(spec: ModelSpec) -> np.ndarray:
    """All anchors of a detector.

    Returns:
        float32 (N, 4): ymin, xmin, ymax, xmax in pixels of the network's input. Ordered by level from the
        lowest, then row-major by location, then by octave, then by aspect ratio.
    """
    anchors = detector_parts(spec).anchors
    levels = [_level_anchors(spec.input.size, size, anchors) for size in level_sizes(spec)]
    return np.concatenate(levels).astype(np.float32)


def level_sizes(spec: ModelSpec) -> list[tuple[int, int]]:
    """Height and width of each feature level: halved and rounded up at each level."""
    low, high = detector_parts(spec).fpn.levels
    height, width = spec.input.size
    sizes = []
    for level in range(1, high + 1):
        height, width = -(-height // 2), -(-width // 2)
        if level >= low:
            sizes.append((height, width))
    return sizes


def _level_anchors(image: tuple[int, int], cells: tuple[int, int], spec: AnchorSpec) -> np.ndarray:
    strides = (image[0] / cells[0], image[1] / cells[1])  # not whole at odd sizes, as in the reference
    ys = (np.arange(cells[0]) + 0.5) * strides[0]
    xs = (np.arange(cells[1]) + 0.5) * strides[1]
    half = shapes(strides, spec) / 2
    centers = np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    return np.concatenate([centers - half, centers + half], axis=-1).reshape(-1, 4)


def shapes(strides: tuple[float, float], spec: AnchorSpec) -> np.ndarray:
    """Height and width of the anchors at a location in pixels, (anchors per location, 2)."""
    shapes = [
        (
            spec.scale * strides[0] * 2 ** (octave / spec.octaves) / np.sqrt(ratio),
            spec.scale * strides[1] * 2 ** (octave / spec.octaves) * np.sqrt(ratio),
        )
        for octave in range(spec.octaves)
        for ratio in spec.aspect_ratios
    ]
    return np.array(shapes)
