"""COCO's AP from precomputed matches, for any weights of the images.

A bootstrap resamples the images a thousand times, but the matches of detections to true boxes stay the same.
With equal weights, this is the AP of `coco_metrics`.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np

from effkeras.data.records import DetectionData, DetectionRecord
from effkeras.detection.nms import Detections

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # detections per class and image that count

Array = np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class ClassMatches:
    """All detections of one class by descending score: their image, and whether each is right per threshold.

    `scores` is float32 (n,). `right` and `counts` are bool (10, n): a detection of a crowd is neither right
    nor counted. `truths` is the number of true boxes per image, (images,).
    """

    scores: Array
    images: Array
    right: Array
    counts: Array
    truths: Array


@dataclass(frozen=True, eq=False, slots=True)
class _Hits:
    """The positions of right detections among all detections of a class, for each threshold.

    Precision peaks only at these positions. `counts` is bool (n,) where some detections do not count, else
    None.
    """

    of: ClassMatches
    places: tuple[Array, ...]
    counts: tuple[Array | None, ...]

    @classmethod
    def among(cls, one: ClassMatches) -> _Hits:
        counts = tuple(None if row.all() else row for row in one.counts)
        return cls(one, tuple(np.flatnonzero(row) for row in one.right), counts)


@dataclass(frozen=True, eq=False)
class Matches:
    """A detector's detections in some images, matched with the true boxes.

    `classes` holds the classes that have true boxes or detections, by class index.
    """

    classes: Mapping[int, ClassMatches]
    images: int

    @classmethod
    def of(cls, data: DetectionData, found: Mapping[int, Detections]) -> Matches:
        """Matches detections by image id; see `coco_metrics` for the arguments."""
        records = [
            record.with_unknown_as_crowds(len(data.labels))
            for record in data.records
            if record.image_id in found
        ]
        parts: dict[int, list[_Part]] = defaultdict(list)
        for place, record in enumerate(records):
            one = found[record.image_id]
            for label in sorted({*record.classes.tolist(), *one.classes.tolist()}):
                parts[label].append(_match_image(place, record, one, label))
        return cls({label: _joined(parts[label], len(records)) for label in sorted(parts)}, len(records))

    def to_arrays(self) -> dict[str, Array]:
        """All matches as arrays by name, such as "0/right" for class 0, for `from_arrays`."""
        return {
            f"{label}/{one.name}": getattr(matches, one.name)
            for label, matches in self.classes.items()
            for one in fields(matches)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Matches:
        """The matches from the arrays of `to_arrays`. Raises KeyError when arrays are missing."""
        names = [one.name for one in fields(ClassMatches)]
        labels = sorted({int(key.partition("/")[0]) for key in arrays})
        classes = {label: ClassMatches(*(arrays[f"{label}/{name}"] for name in names)) for label in labels}
        return cls(classes, len(next((one.truths for one in classes.values()), ())))

    def average_precision(self, weights: Array | None = None) -> float:
        """AP over IoU 0.5 to 0.95, with each image counted by its weight in `weights` (images,)."""
        values = [precisions.mean() for precisions in self.average_precisions(weights).values()]
        return float(np.mean(values)) if values else 0.0

    def average_precisions(self, weights: Array | None = None) -> dict[int, Array]:
        """AP at each of `IOUS`, (10,), of every class that has true boxes; weights as above."""
        weights = np.ones(self.images) if weights is None else weights
        return {
            label: _precisions(one, weights)
            for label, one in self._hits.items()
            if one.of.truths @ weights > 0
        }

    @functools.cached_property
    def _hits(self) -> dict[int, _Hits]:
        return {label: _Hits.among(one) for label, one in self.classes.items()}


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """The matches of one class in the image at `place`; see `ClassMatches`."""

    place: int
    scores: Array
    right: Array
    counts: Array
    truths: int


def _joined(parts: list[_Part], images: int) -> ClassMatches:
    """The matches of one class in all images."""
    scores = np.concatenate([one.scores for one in parts])
    order = np.argsort(-scores, kind="stable")
    places = np.repeat([one.place for one in parts], [len(one.scores) for one in parts])
    right = np.concatenate([one.right for one in parts], axis=1)[:, order]
    counts = np.concatenate([one.counts for one in parts], axis=1)[:, order]
    truths = np.zeros(images, np.int64)
    truths[[one.place for one in parts]] = [one.truths for one in parts]
    return ClassMatches(scores[order], places[order], right, counts, truths)


def _match_image(place: int, record: DetectionRecord, found: Detections, label: int) -> _Part:
    """Matches one class in one image."""
    own = np.flatnonzero(found.classes == label)
    own = own[np.argsort(-found.scores[own], kind="stable")][:MOST]
    true = np.flatnonzero(record.classes == label)
    true = true[np.argsort(record.crowd[true], kind="stable")]  # crowds last
    crowd = record.crowd[true]
    right = np.zeros((len(IOUS), len(own)), bool)
    counts = np.ones_like(right)
    if not len(true):  # most classes that a detector names in an image are not there
        return _Part(place, found.scores[own], right, counts, 0)
    shares = overlaps(found.boxes[own].astype(float), record.boxes[true].astype(float), crowd)
    best = shares.max(initial=0)
    for index, threshold in enumerate(IOUS[best >= IOUS]):
        for position, taken in greedy_pairs(shares, crowd, min(threshold, 1 - 1e-10)):
            right[index, position], counts[index, position] = not crowd[taken], not crowd[taken]
    return _Part(place, found.scores[own], right, counts, int((~crowd).sum()))


def greedy_pairs(shares: Array, crowd: Array, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of a detection and its true box, given their IoU (n, m): the best free box, else a crowd."""
    free = np.ones(len(crowd), bool)
    for position in np.flatnonzero((shares >= threshold).any(axis=1)):
        row = shares[position]
        for kind in (free & ~crowd, crowd):
            fits = np.flatnonzero(kind & (row >= threshold))
            if len(fits):
                best = fits[np.flatnonzero(row[fits] == row[fits].max())[-1]]  # the last of equals, as COCO
                free[best] = crowd[best]
                yield int(position), int(best)
                break


def overlaps(found: Array, true: Array, crowd: Array) -> Array:
    """IoU (n, m); with a crowd, the share of the detection inside it."""
    low = np.maximum(found[:, None, :2], true[None, :, :2])
    high = np.minimum(found[:, None, 2:], true[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=-1)
    areas, true_areas = (np.prod(one[:, 2:] - one[:, :2], axis=-1) for one in (found, true))
    union = np.where(crowd, areas[:, None], areas[:, None] + true_areas - inside)
    return inside / np.maximum(union, 1e-12)


def _precisions(hits: _Hits, weights: Array) -> Array:
    """AP of one class at each IoU, (10,): the mean over recalls of the best precision there or above."""
    each = weights[hits.of.images]
    seen, truths = np.cumsum(each), hits.of.truths @ weights
    values = []
    for places, counts in zip(hits.places, hits.counts, strict=True):
        counted = seen if counts is None else np.cumsum(each * counts)
        right = np.cumsum(each[places])
        precision = right / np.maximum(counted[places], 1e-12)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        values.append(_at_recalls(right / truths, best))
    return np.array(values)


def _at_recalls(recall: Array, best: Array) -> float:
    places = np.searchsorted(recall, RECALLS, side="left")
    padded = np.append(best, 0.0)
    return float(padded[places].mean())
