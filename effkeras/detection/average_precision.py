"""COCO's AP from precomputed matches, for any weights of the images.

A bootstrap resamples the images a thousand times, but the matches of detections to true boxes stay the same.
With equal weights, this is the AP of `coco_metrics`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
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

    `right` and `counts` are bool (10, n): a detection of a crowd is neither right nor counted. `truths` is
    the number of true boxes per image, (images,).
    """

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

    `labels` are the indices of the classes that the images show, in the order of `classes`.
    """

    classes: tuple[ClassMatches, ...]
    images: int
    labels: tuple[int, ...]

    @classmethod
    def of(cls, data: DetectionData, found: Mapping[int, Detections]) -> Matches:
        """Matches detections by image id; see `coco_metrics` for the arguments."""
        records = [
            record.with_unknown_as_crowds(len(data.labels))
            for record in data.records
            if record.image_id in found
        ]
        there = sorted({int(label) for record in records for label in record.classes})
        return cls(tuple(_matched(records, found, label) for label in there), len(records), tuple(there))

    def to_arrays(self) -> dict[str, Array]:
        """All matches as arrays by name, such as "0/right", for `from_arrays`."""
        matches = {
            f"{index}/{one.name}": getattr(matches, one.name)
            for index, matches in enumerate(self.classes)
            for one in fields(matches)
        }
        return {"labels": np.array(self.labels, np.int64), **matches}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Matches:
        """The matches from the arrays of `to_arrays`. Raises KeyError when arrays are missing."""
        names = [one.name for one in fields(ClassMatches)]
        labels = tuple(int(label) for label in arrays["labels"])
        classes = tuple(
            ClassMatches(*(arrays[f"{index}/{name}"] for name in names)) for index in range(len(labels))
        )
        return cls(classes, len(arrays["0/truths"]), labels)

    def average_precision(self, weights: Array | None = None) -> float:
        """AP over IoU 0.5 to 0.95, with each image counted by its weight in `weights` (images,)."""
        weights = np.ones(self.images) if weights is None else weights
        values = [np.mean(_precisions(one, weights)) for one in self._hits if one.of.truths @ weights > 0]
        return float(np.mean(values)) if values else 0.0

    def class_precisions(self) -> list[float]:
        """AP at IoU 0.5 of each class, 0 for one that only crowds show; all images count alike."""
        weights = np.ones(self.images)
        return [_precisions(one, weights)[0] if one.of.truths.any() else 0.0 for one in self._hits]

    @functools.cached_property
    def _hits(self) -> list[_Hits]:
        return [_Hits.among(one) for one in self.classes]


def _matched(records: Sequence[DetectionRecord], found: Mapping[int, Detections], label: int) -> ClassMatches:
    """Matches detections and true boxes of one class."""
    parts = [_match_image(record, found[record.image_id], label) for record in records]
    scores = np.concatenate([scores for scores, _, _ in parts])
    order = np.argsort(-scores, kind="stable")
    images = np.repeat(np.arange(len(records)), [len(scores) for scores, _, _ in parts])
    right, counts = (
        np.concatenate([part[position] for part in parts], axis=1)[:, order] for position in (1, 2)
    )
    truths = [int(((one.classes == label) & ~one.crowd).sum()) for one in records]
    return ClassMatches(images[order], right, counts, np.array(truths))


def _match_image(record: DetectionRecord, found: Detections, label: int) -> tuple[Array, Array, Array]:
    """Matches one class in one image: scores (n,), and right and counted detections, both (10, n)."""
    own = np.flatnonzero(found.classes == label)
    own = own[np.argsort(-found.scores[own], kind="stable")][:MOST]
    true = np.flatnonzero(record.classes == label)
    true = true[np.argsort(record.crowd[true], kind="stable")]  # crowds last
    crowd = record.crowd[true]
    overlaps = _overlaps(found.boxes[own].astype(float), record.boxes[true].astype(float), crowd)
    right = np.zeros((len(IOUS), len(own)), bool)
    counts = np.ones_like(right)
    for index, threshold in enumerate(IOUS):
        for position, taken in _greedy(overlaps, crowd, min(threshold, 1 - 1e-10)):
            right[index, position], counts[index, position] = not crowd[taken], not crowd[taken]
    return found.scores[own], right, counts


def _greedy(overlaps: Array, crowd: Array, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of a detection and its true box: the best free box, else a crowd."""
    free = np.ones(len(crowd), bool)
    for position, row in enumerate(overlaps):
        for kind in (free & ~crowd, crowd):
            fits = np.flatnonzero(kind & (row >= threshold))
            if len(fits):
                best = fits[np.flatnonzero(row[fits] == row[fits].max())[-1]]  # the last of equals, as COCO
                free[best] = crowd[best]
                yield position, int(best)
                break


def _overlaps(found: Array, true: Array, crowd: Array) -> Array:
    """IoU (n, m); with a crowd, the share of the detection inside it."""
    low = np.maximum(found[:, None, :2], true[None, :, :2])
    high = np.minimum(found[:, None, 2:], true[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=-1)
    areas, true_areas = (np.prod(one[:, 2:] - one[:, :2], axis=-1) for one in (found, true))
    union = np.where(crowd, areas[:, None], areas[:, None] + true_areas - inside)
    return inside / np.maximum(union, 1e-12)


def _precisions(hits: _Hits, weights: Array) -> list[float]:
    """AP of one class at each threshold: the best precision at each recall or above, averaged."""
    each = weights[hits.of.images]
    seen, truths = np.cumsum(each), hits.of.truths @ weights
    values = []
    for places, counts in zip(hits.places, hits.counts, strict=True):
        counted = seen if counts is None else np.cumsum(each * counts)
        right = np.cumsum(each[places])
        precision = right / np.maximum(counted[places], 1e-12)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        values.append(_at_recalls(right / truths, best))
    return values


def _at_recalls(recall: Array, best: Array) -> float:
    places = np.searchsorted(recall, RECALLS, side="left")
    padded = np.append(best, 0.0)
    return float(padded[places].mean())
