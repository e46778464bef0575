"""How well a detector's anchors cover the boxes of a data set, and anchors and an input size that fit better.

The typical sizes and aspect ratios of the boxes are k-means clusters with the distance 1 - IoU of two boxes
with the same centre: Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger" (CVPR 2017), section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from effkeras.data.preprocess import placement
from effkeras.data.records import DetectionData
from effkeras.data.statistics import all_boxes
from effkeras.definitions.definition import AnchorSpec, InputSpec, ModelSpec, detector_parts
from effkeras.detection.boxes import level_sizes, shapes

COVERED = 0.5  # the IoU from which on an anchor is trained for a box (`matching`)
GOOD = 0.95  # the share of covered boxes of the worst class at which a larger input is not needed
_SAMPLE = 20_000  # boxes for the choice of an input size and anchors
_FEWEST = 200  # boxes of a class in that sample, if it has as many
_RATIOS = 3
_GAIN = 0.02  # what other anchors must gain: share of the worst class, or mean IoU
_SCALES = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
_FACTORS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)  # of the input's sides
_MULTIPLE = 32  # pixels of a suggested side
_LARGEST = 1280
_ROUNDS = 100


@dataclass(frozen=True, eq=False, slots=True)
class InputBoxes:
    """The boxes of a data set in a network's input: float32 (n, 4) in pixels, and their classes."""

    boxes: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True, slots=True)
class Fit:
    """An input size with anchors; per class the share of boxes with an anchor of IoU 0.5 or more.

    `covered` is NaN for classes without boxes; `iou` is the mean of all boxes' best IoU.
    """

    size: tuple[int, int]
    anchors: AnchorSpec
    covered: tuple[float, ...]
    iou: float

    @property
    def worst(self) -> float:
        """The share of the class that is covered worst."""
        return float(np.nanmin(self.covered))


def input_boxes(data: DetectionData, spec: InputSpec) -> InputBoxes:
    """All boxes but crowds, resized and cropped with their images as for the network."""
    table = all_boxes(data)
    sizes, which = np.unique(table.sizes, axis=0, return_inverse=True)
    placed = [placement((int(height), int(width)), spec) for height, width in sizes]
    scales = np.array([one.scale for one in placed]).reshape(-1, 2)
    offsets = np.array([one.offset for one in placed]).reshape(-1, 2)
    own = which.ravel()[table.images]
    boxes = table.boxes * np.tile(scales, 2)[own] + np.tile(offsets, 2)[own]
    boxes = np.clip(boxes, 0, np.tile(spec.size, 2))
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & ~table.crowd
    return InputBoxes(boxes[kept].astype(np.float32), table.classes[kept])


def fit(found: InputBoxes, spec: ModelSpec, classes: int) -> Fit:
    """How well the anchors of `spec` cover boxes in its input."""
    best = best_ious(found.boxes, spec)
    counts = np.bincount(found.classes, minlength=classes)
    covered = np.bincount(found.classes, weights=best >= COVERED, minlength=classes)
    shares = np.divide(covered, counts, out=np.full(classes, np.nan), where=counts > 0)
    mean = float(best.mean()) if len(best) else 0.0
    return Fit(spec.input.size, detector_parts(spec).anchors, tuple(shares.tolist()), mean)


def best_ious(boxes: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """The largest IoU of each box (n, 4) with any of a detector's anchors.

    Of the anchors of one shape the one with the nearest centre overlaps most, so only these are compared.
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    best = np.zeros(len(boxes))
    for cells in level_sizes(spec):
        strides = np.array(spec.input.size) / cells
        near = (np.clip(np.rint(centers / strides - 0.5), 0, np.array(cells) - 1) + 0.5) * strides
        for half in shapes((strides[0], strides[1]), detector_parts(spec).anchors) / 2:
            best = np.maximum(best, _ious(boxes, np.concatenate([near - half, near + half], axis=1)))
    return best


def _ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of boxes of positive area, row by row."""
    inner = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shared = np.maximum(inner, 0).prod(axis=1)
    own = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / (own[0] + own[1] - shared)  # type: ignore[no-any-return]


def suggest(data: DetectionData, spec: ModelSpec, seed: int = 0) -> Fit:
    """The smallest input, from the model's own on, and its best anchors, that cover 95 % of every class.

    Where none does, the one that covers the worst class best. The anchors per location stay as many as they
    are. Other aspect ratios are suggested only if they cover clearly more.
    """
    tried: list[Fit] = []
    for size in _sizes(spec.input.size):
        tried.append(_best_at(spec.replace(input=replace(spec.input, size=size)), data, seed))
        if tried[-1].worst >= GOOD:
            break
    return _exact(data, spec, tried[-1] if tried[-1].worst >= GOOD else max(tried, key=_quality))


def suggest_anchors(data: DetectionData, spec: ModelSpec, seed: int = 0) -> Fit:
    """`suggest` for the model's own input size."""
    return _exact(data, spec, _best_at(spec, data, seed))


def is_better(best: Fit, own: Fit, *, by_iou: bool = True) -> bool:
    """Whether a suggestion covers the worst class clearly better than `own`, or fits all boxes better."""
    gain = max(best.worst - own.worst, best.iou - own.iou if by_iou else 0.0)
    return gain >= _GAIN and best.worst >= own.worst


def _best_at(spec: ModelSpec, data: DetectionData, seed: int) -> Fit:
    """The best anchors at one input size, measured on a sample of the boxes."""
    found = _sampled(input_boxes(data, spec.input), seed)
    fits = [fit(found, _with_anchors(spec, one), len(data.labels)) for one in _candidates(found, spec, seed)]
    ratios = detector_parts(spec).anchors.aspect_ratios
    kept = [one for one in fits if one.anchors.aspect_ratios == ratios]
    best, best_kept = max(fits, key=_quality), max(kept, key=_quality)
    gain = max(best.worst - best_kept.worst, best.iou - best_kept.iou)
    return best if gain > _GAIN else best_kept


def _quality(one: Fit) -> tuple[float, float]:
    """The share of the worst class in steps of a point, then the mean IoU."""
    return round(min(one.worst, 0.99), 2), one.iou


def _exact(data: DetectionData, spec: ModelSpec, chosen: Fit) -> Fit:
    """The choice, measured on all boxes."""
    resized = _with_anchors(spec.replace(input=replace(spec.input, size=chosen.size)), chosen.anchors)
    return fit(input_boxes(data, resized.input), resized, len(data.labels))


def _with_anchors(spec: ModelSpec, anchors: AnchorSpec) -> ModelSpec:
    return spec.replace(anchors=anchors)


def _sizes(own: tuple[int, int]) -> list[tuple[int, int]]:
    larger = [tuple(round(side * factor / _MULTIPLE) * _MULTIPLE for side in own) for factor in _FACTORS[1:]]
    return [own, *((one[0], one[1]) for one in larger if max(own) < max(one) <= _LARGEST)]


def _candidates(found: InputBoxes, spec: ModelSpec, seed: int) -> Iterator[AnchorSpec]:
    own = detector_parts(spec).anchors
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    stride = spec.input.size[0] / level_sizes(spec)[0][0]
    smallest = np.sqrt(kmeans(sides, own.per_location, seed).prod(axis=1).min())
    finest = round(float(smallest / stride) * 4) / 4
    scales = {*_SCALES, own.scale, min(max(finest, _SCALES[0]), _SCALES[-1])}
    for ratios in {own.aspect_ratios, aspect_ratios(sides, seed)}:
        for scale in sorted(scales):
            yield replace(own, scale=scale, aspect_ratios=ratios)


def aspect_ratios(sides: np.ndarray, seed: int = 0) -> tuple[float, ...]:
    """Three typical aspect ratios (width / height), the one nearest to 1 first.

    Args:
        sides: the heights and widths of boxes, (n, 2).
        seed: of the k-means.
    """
    shapes_only = sides / np.sqrt(sides.prod(axis=1, keepdims=True))
    centers = kmeans(shapes_only, _RATIOS, seed)
    ratios = {round(float(width / height), 2) for height, width in centers}
    return tuple(sorted(ratios, key=lambda ratio: abs(np.log(ratio))))


def kmeans(sides: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """Typical heights and widths, (k, 2) with k at most `clusters`, by area.

    Lloyd's algorithm with the distance 1 - IoU; it starts from boxes chosen at random, the next the likelier
    the further it is from the chosen ones (k-means++).

    Args:
        sides: the heights and widths of boxes, (n, 2), above 0.
        clusters: how many.
        seed: of the start.
    """
    chance = np.random.default_rng(seed)
    sides = sides.astype(np.float64)
    centers = sides[chance.integers(len(sides), size=1)]
    while len(centers) < clusters:
        distances = np.maximum(1 - _aligned_ious(sides, centers).max(axis=1), 0)
        if distances.sum() < 1e-9:
            break
        chosen = chance.choice(len(sides), p=distances / distances.sum())
        centers = np.concatenate([centers, sides[chosen][None]])
    owners = np.full(len(sides), -1)
    for _ in range(_ROUNDS):
        nearest = _aligned_ious(sides, centers).argmax(axis=1)
        if (nearest == owners).all():
            break
        owners = nearest
        counts = np.bincount(owners, minlength=len(centers))
        sums = np.stack([np.bincount(owners, sides[:, axis], len(centers)) for axis in (0, 1)], axis=1)
        centers = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centers)
    return centers[np.argsort(centers.prod(axis=1))]


def _aligned_ious(sides: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """IoU of boxes (n, 2) and clusters (k, 2) with the same centre: (n, k)."""
    shared = np.minimum(sides[:, None], centers).prod(axis=2)
    return shared / (sides.prod(axis=1)[:, None] + centers.prod(axis=1) - shared)  # type: ignore[no-any-return]


def _sampled(found: InputBoxes, seed: int) -> InputBoxes:
    """At most about 20,000 boxes; of rare classes all."""
    if len(found.boxes) <= _SAMPLE:
        return found
    chance = np.random.default_rng(seed)
    labels, counts = np.unique(found.classes, return_counts=True)
    chosen = []
    for label, count in zip(labels, counts, strict=True):
        size = min(count, max(_FEWEST, int(_SAMPLE * count / len(found.boxes))))
        chosen.append(chance.choice(np.flatnonzero(found.classes == label), size, replace=False))
    places = np.sort(np.concatenate(chosen))
    return InputBoxes(found.boxes[places], found.classes[places])
