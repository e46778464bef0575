"""Anchor boxes (EfficientDet reference code, `anchors.py`)."""

from __future__ import annotations

import numpy as np

from effkeras.definitions.definition import AnchorSpec, ModelSpec, detector_parts


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
