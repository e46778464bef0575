"""Preprocessing and postprocessing in TensorFlow operations: images to inputs, and outputs to results.

Preprocessing is `effkeras.data.preprocess` with the same steps and precision, so that both give the same
pixels. Outputs become detections, classes and masks by the steps of `effkeras.detection` (nms, segmentation)
and `effkeras.inference.predict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from effkeras.definitions.definition import InputSpec, ModelSpec, NmsSpec, detector_parts
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.nms import MAX_CANDIDATES
from effkeras.graph.heads import MASK_STRIDE
from effkeras.inference.task import label_of
from effkeras.inference.tasks.classification import BEST

NOTHING = -1  # the class of a row without a detection
OUTSIDE = 255  # the class of a mask's pixels outside the image

Tensors = dict[str, Any]


class Placement(NamedTuple):
    """The position of an image in the network's input, as in `effkeras.data.preprocess.Placement`.

    `scale` and `offset` are float64 (2,). `size` is int64 (2,), the image's height and width.
    """

    scale: Any
    offset: Any
    size: Any


def place(images: Any, spec: InputSpec) -> tuple[Any, Placement]:
    """Resizes images of equal size to the network's input.

    Args:
        images: uint8 (B, h, w, 3) RGB.
        spec: the input size and the resize mode.

    Returns:
        float32 (B, H, W, 3), pixels 0..255 with the mean colour as padding; and their common placement.
    """
    way = _letterbox if spec.resize == "letterbox" else _center_crop
    content, placement = way(images, spec)
    return _fill(content, spec), placement


def untouched(pixels: Any, spec: InputSpec) -> tuple[Any, Placement]:
    """Images that already have the input's size, (B, H, W, 3), as float32, with the identity placement."""
    ones = tf.ones(2, tf.float64)
    return tf.cast(pixels, tf.float32), Placement(ones, 0 * ones, tf.constant(spec.size, tf.int64))


def to_image(boxes: Any, placement: Placement) -> Any:
    """Boxes (n, 4) from input pixels to image pixels, clipped to the image, float32."""
    offset, scale = tf.tile(placement.offset, [2]), tf.tile(placement.scale, [2])
    moved = (tf.cast(boxes, tf.float64) - offset) / scale
    edges = tf.tile(tf.cast(placement.size, tf.float64), [2])
    return tf.cast(tf.clip_by_value(moved, 0.0, edges), tf.float32)


def _letterbox(images: Any, spec: InputSpec) -> tuple[Any, Placement]:
    size, target = tf.stack(_sides(images)), tf.constant(spec.size, tf.int64)
    crossed = target * size[::-1]  # the dimension with the smaller ratio is filled
    fitting = tf.maximum(target[::-1] * size // size[::-1], 1)
    inner = tf.where(tf.stack([crossed[0] <= crossed[1], crossed[0] > crossed[1]]), target, fitting)
    return _resized(images, inner), Placement(_double(inner) / _double(size), tf.zeros(2, tf.float64), size)


def _center_crop(images: Any, spec: InputSpec) -> tuple[Any, Placement]:
    size, target = tf.stack(_sides(images)), tf.constant(spec.size, tf.int64)
    ratio = tf.reduce_min(_double(size) / _double(target)) * spec.crop
    cut = tf.maximum(tf.cast(tf.round(_double(target) * ratio), tf.int64), 1)
    corner = (size - cut) // 2
    ends = corner + cut
    content = _resized(images[:, corner[0] : ends[0], corner[1] : ends[1]], target)
    scale = _double(target) / _double(cut)
    return content, Placement(scale, -_double(corner) * scale, size)


def _resized(images: Any, size: Any) -> Any:
    """Resizes uint8 (B, h, w, 3) to float32 (B, *size, 3), rounded to integers."""
    height, width = _sides(images)
    tops, bottoms, down = neighbours(height, size[0])
    lefts, rights, across = neighbours(width, size[1])
    down, across = down[:, None, None], across[:, None]
    rows = _lines(images, tops, 1) * (1 - down) + _lines(images, bottoms, 1) * down
    pixels = _lines(rows, lefts, 2) * (1 - across) + _lines(rows, rights, 2) * across
    return tf.round(pixels)


def neighbours(source: Any, target: Any) -> tuple[Any, Any, Any]:
    """For each output pixel, the two nearest input pixels and its distance from the first."""
    step = _double(source) / _double(target)
    position = (_double(tf.range(target)) + 0.5) * step - 0.5
    return around(position, source - 1)


def around(position: Any, last: Any) -> tuple[Any, Any, Any]:
    """The two integers in 0..last (int64) around each float64 position (n,), and its distance from the first
    (float32).
    """
    position = tf.clip_by_value(position, 0.0, _double(last))
    first = tf.cast(tf.floor(position), tf.int64)
    distance = tf.cast(position - _double(first), tf.float32)
    return first, tf.minimum(first + 1, last), distance


def _fill(content: Any, spec: InputSpec) -> Any:
    """Pads the content, (B, h, w, 3), to the input size, (B, H, W, 3); it stays at the top left."""
    height, width = _sides(content)
    missing = [[0, 0], [0, spec.size[0] - height], [0, spec.size[1] - width], [0, 0]]
    rows, columns = (tf.range(side, dtype=tf.int64) for side in spec.size)
    inside = (rows[:, None] < height) & (columns < width)
    mean = tf.constant(spec.mean, tf.float32)
    pixels = tf.where(inside[..., None], tf.pad(content, missing), mean)
    return tf.ensure_shape(pixels, (None, *spec.size, 3))


def _lines(images: Any, indices: Any, axis: int) -> Any:
    return tf.cast(tf.gather(images, indices, axis=axis), tf.float32)


def _sides(images: Any) -> tuple[Any, Any]:
    shape = tf.shape(images, out_type=tf.int64)
    return shape[1], shape[2]


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)


class _Candidates(NamedTuple):
    """Boxes (n, 4) in input pixels with their logits (n,) and class indices (n,)."""

    boxes: Any
    logits: Any
    classes: Any


def names_of(spec: ModelSpec) -> list[str]:
    """The class names, as in predictions."""
    return [label_of(spec, index) for index in range(spec.classes)]


def classes_of(scores: Any, spec: ModelSpec) -> Tensors:
    """A classifier's results from scores (B, classes): the `BEST` highest-scoring classes, and all scores."""
    best = tf.math.top_k(scores, min(BEST, spec.classes))
    names = tf.gather(tf.constant(names_of(spec)), best.indices)
    return {"scores": best.values, "classes": best.indices, "labels": names, "all_scores": scores}


def detections_of(
    outputs: Mapping[str, Any], placement: Placement, spec: ModelSpec, min_score: float
) -> Tensors:
    """A detector's results for one image, from (N, classes) logits and (N, 4) deltas.

    There are always `max_detections` rows, best first. The first `count` hold detections with a score of at
    least `min_score`; the others are 0, with class -1 and name "".
    """
    nms = detector_parts(spec).nms
    found = _candidates(outputs["class_logits"], outputs["box_deltas"], spec)
    chosen, scores, kept = _suppress(found.boxes, tf.sigmoid(found.logits), nms)
    count = tf.minimum(kept, tf.reduce_sum(tf.cast(scores >= min_score, tf.int32)))
    valid = tf.range(nms.max_detections) < count
    chosen = tf.where(valid, chosen, 0)
    boxes = _clipped(tf.gather(found.boxes, chosen), spec.input.size)
    classes = tf.gather(found.classes, chosen)
    return {
        "boxes": tf.where(valid[:, None], to_image(boxes, placement), 0.0),
        "scores": tf.where(valid, scores, 0.0),
        "classes": tf.where(valid, classes, NOTHING),
        "labels": tf.where(valid, tf.gather(tf.constant(names_of(spec)), classes), ""),
        "count": count,
    }


def mask_of(logits: Any, placement: Placement) -> Any:
    """The highest-scoring class of each image pixel: (h, w, C) logits to uint8 (height, width)."""
    shape = tf.shape(logits, out_type=tf.int64)
    tops, bottoms, down = _mask_neighbours(placement, 0, shape[0])
    lefts, rights, across = _mask_neighbours(placement, 1, shape[1])
    across = across[:, None]
    wide = tf.gather(logits, lefts, axis=1) * (1 - across) + tf.gather(logits, rights, axis=1) * across

    def row(at: tuple[Any, Any, Any]) -> Any:
        low, high = wide[at[0]], wide[at[1]]
        return tf.cast(tf.argmax(low + (high - low) * at[2], axis=-1), tf.uint8)

    # Row by row: the logits of all pixels of a photograph at once do not fit into memory.
    return tf.map_fn(row, (tops, bottoms, down), fn_output_signature=tf.uint8)


def _candidates(class_logits: Any, box_deltas: Any, spec: ModelSpec) -> _Candidates:
    """The candidates for NMS, each pair of anchor and class once."""
    rows, classes = _pairs(class_logits, detector_parts(spec).nms)
    logits = tf.gather_nd(class_logits, tf.stack([rows, classes], axis=-1))
    anchors = tf.gather(tf.constant(anchor_boxes(spec)), rows)
    return _Candidates(_decoded(tf.gather(box_deltas, rows), anchors), logits, classes)


def _pairs(class_logits: Any, nms: NmsSpec) -> tuple[Any, Any]:
    count, classes = class_logits.shape
    if nms.max_inputs:
        flat = _strongest(tf.reshape(class_logits, [-1]), min(nms.max_inputs, count * classes))
        return flat // classes, flat % classes
    rows = _strongest(tf.reduce_max(class_logits, axis=-1), min(MAX_CANDIDATES, count))
    return rows, tf.gather(tf.argmax(class_logits, axis=-1, output_type=tf.int32), rows)


def _strongest(scores: Any, count: int) -> Any:
    return tf.sort(tf.math.top_k(scores, count, sorted=False).indices)


def _decoded(deltas: Any, anchors: Any) -> Any:
    """Boxes (n, 4) from ty, tx, th, tw relative to anchors (n, 4)."""
    sizes = anchors[:, 2:] - anchors[:, :2]
    centers = deltas[:, :2] * sizes + (anchors[:, :2] + anchors[:, 2:]) / 2
    half = tf.exp(deltas[:, 2:]) * sizes / 2
    return tf.concat([centers - half, centers + half], axis=-1)


def _suppress(boxes: Any, scores: Any, nms: NmsSpec) -> tuple[Any, Any, Any]:
    """Indices and scores (max_detections,) of the kept boxes, best first, and their number.

    The operation computes exp(-IoU^2 / (2 * sigma)), so it gets half the sigma of Bodla et al. For soft
    suppression its IoU threshold is 1, because it would otherwise also suppress hard.
    """
    soft = nms.method == "gaussian"
    return tf.raw_ops.NonMaxSuppressionV5(
        boxes=boxes,
        scores=scores,
        max_output_size=nms.max_detections,
        iou_threshold=1.0 if soft else nms.iou_threshold,
        score_threshold=nms.score_threshold if soft else -np.inf,
        soft_nms_sigma=nms.sigma / 2 if soft else 0.0,
        pad_to_max_output_size=True,
    )


def _clipped(boxes: Any, size: tuple[int, int]) -> Any:
    return tf.clip_by_value(boxes, 0.0, tf.constant([*size, *size], tf.float32))


def _mask_neighbours(placement: Placement, axis: int, length: Any) -> tuple[Any, Any, Any]:
    """For each row (or column) of the image: the two nearest of the mask, and the distance from the first."""
    scale, offset, side = placement.scale[axis], placement.offset[axis], placement.size[axis]
    end = tf.round((tf.cast(side, tf.float64) * scale + offset) * 1000) / 1000
    last = tf.minimum(length, tf.cast(tf.math.ceil(end / MASK_STRIDE), tf.int64)) - 1
    position = ((tf.cast(tf.range(side), tf.float64) + 0.5) * scale + offset) / MASK_STRIDE - 0.5
    return around(position, last)
