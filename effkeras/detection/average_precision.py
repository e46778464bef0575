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
_NEXT_RECALLS = np.append(RECALLS[1:], np.inf)
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
    """The right detections of a class at all thresholds, one threshold after the other.

    Precision peaks only there. Of each right detection (m,): `rows` is the index of its threshold, `starts`
    where that begins, `places` its place among all detections. Between `skipped` (m, 2) lie, in `uncounted`,
    the images of the detections before it that do not count at its threshold.
    """

    of: ClassMatches
    rows: Array
    starts: Array
    places: Array
    uncounted: Array
    skipped: Array

    @classmethod
    def among(cls, one: ClassMatches) -> _Hits:
        rows, places = np.nonzero(one.right)
        rows_out, out = np.nonzero(~one.counts)
        size = len(one.scores)
        skipped = np.searchsorted(
            rows_out * size + out, np.stack([rows * size, rows * size + places], axis=1)
        )
        return cls(one, rows, np.searchsorted(rows, rows), places, one.images[out], skipped)

    def precisions(self, weights: Array, truths: float) -> Array:
        """AP at each of `IOUS`, (10,): the mean over recalls of the best precision there or above."""
        each = weights[self.of.images]
        found = _sums(each[self.places])
        right = found[1:] - found[self.starts]
        counted = np.cumsum(each)[self.places]
        if len(self.uncounted):
            counted -= np.diff(_sums(weights[self.uncounted])[self.skipped], axis=1)[:, 0]
        best = _best_from_here(right / np.maximum(counted, 1e-12), self.rows)
        reached = _reached(right / truths)
        new = np.diff(reached, prepend=0)
        is_first = self.starts == np.arange(len(new))
        new[is_first] = reached[is_first]
        return np.bincount(self.rows, best * new, minlength=len(IOUS)) / len(RECALLS)


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
        if not records:
            return cls({}, 0)
        parts = [_match_image(record, found[record.image_id]) for record in records]
        return cls(_by_class(parts, records), len(records))

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
        truths = {label: float(one.truths @ weights) for label, one in self.classes.items()}
        return {
            label: one.precisions(weights, truths[label])
            for label, one in self._hits.items()
            if truths[label] > 0
        }

    @functools.cached_property
    def _hits(self) -> dict[int, _Hits]:
        return {label: _Hits.among(one) for label, one in self.classes.items()}


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """The matches of all classes in an image, by descending score; see `ClassMatches`."""

    scores: Array
    classes: Array
    right: Array
    counts: Array


def _by_class(parts: Sequence[_Part], records: Sequence[DetectionRecord]) -> dict[int, ClassMatches]:
    """The matches of each class in all images."""
    scores, found = (np.concatenate([getattr(one, name) for one in parts]) for name in ("scores", "classes"))
    right, counts = (
        np.concatenate([getattr(one, name) for one in parts], axis=1) for name in ("right", "counts")
    )
    places = np.repeat(np.arange(len(parts)), [len(one.scores) for one in parts])
    true = np.concatenate([one.classes for one in records])
    holders = np.repeat(np.arange(len(records)), [len(one.classes) for one in records])
    is_counted = ~np.concatenate([one.crowd for one in records])
    order = np.lexsort((-scores, found))
    labels = np.unique(np.concatenate([true, found]))
    ends = np.searchsorted(found[order], labels, side="right")
    matches = {}
    for label, own in zip(labels.tolist(), np.split(order, ends[:-1]), strict=True):
        truths = np.bincount(holders[is_counted & (true == label)], minlength=len(records))
        matches[label] = ClassMatches(scores[own], places[own], right[:, own], counts[:, own], truths)
    return matches


def _match_image(record: DetectionRecord, found: Detections) -> _Part:
    """Matches the detections of an image with the true boxes of their classes."""
    order = np.argsort(-found.scores, kind="stable")
    if len(order) > MOST:
        order = order[_ranks(found.classes[order]) < MOST]
    classes, crowd = found.classes[order], record.crowd
    right = np.zeros((len(IOUS), len(order)), bool)
    counts = np.ones_like(right)
    if len(order) and len(crowd):
        shares = overlaps(found.boxes[order].astype(float), record.boxes.astype(float), crowd)
        shares[classes[:, None] != record.classes] = -1
        candidates, is_crowd = _candidates(shares, crowd, IOUS[0]), crowd.tolist()
        best = max((share for *_, share in candidates), default=0)
        for index, threshold in enumerate(IOUS[best >= IOUS].tolist()):
            for position, taken in _greedy(candidates, is_crowd, threshold):
                right[index, position] = counts[index, position] = not is_crowd[taken]
    return _Part(found.scores[order], classes, right, counts)


def _ranks(classes: Array) -> Array:
    """How many elements before each are of the same class, (n,)."""
    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    ranks = np.empty(len(classes), np.int64)
    ranks[order] = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    return ranks


# A detection, a true box and their IoU.
_Candidate = tuple[int, int, float]


def greedy_pairs(shares: Array, crowd: Array, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of a detection and its true box, given their IoU (n, m): the best free box, else a crowd."""
    return _greedy(_candidates(shares, crowd, threshold), crowd.tolist(), threshold)


def _candidates(shares: Array, crowd: Array, threshold: float) -> list[_Candidate]:
    """What may be paired, in the order in which it is tried: of equals the last box first, as COCO does."""
    rows, columns = np.nonzero(shares >= threshold)
    values = shares[rows, columns]
    order = np.lexsort((-columns, -values, crowd[columns], rows))
    return list(zip(rows[order].tolist(), columns[order].tolist(), values[order].tolist(), strict=True))


def _greedy(
    candidates: Sequence[_Candidate], is_crowd: Sequence[bool], threshold: float
) -> Iterator[tuple[int, int]]:
    done, taken = -1, set()
    for row, column, share in candidates:
        if row != done and share >= threshold and column not in taken:
            done = row
            if not is_crowd[column]:
                taken.add(column)
            yield row, column


def overlaps(found: Array, true: Array, crowd: Array) -> Array:
    """IoU (n, m); with a crowd, the share of the detection inside it."""
    low = np.maximum(found[:, None, :2], true[None, :, :2])
    high = np.minimum(found[:, None, 2:], true[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=-1)
    areas, true_areas = (np.prod(one[:, 2:] - one[:, :2], axis=-1) for one in (found, true))
    union = np.where(crowd, areas[:, None], areas[:, None] + true_areas - inside)
    return inside / np.maximum(union, 1e-12)


def _sums(values: Array) -> Array:
    """The sums of the first 0, 1, 2, ... values."""
    return np.concatenate([[0.0], np.cumsum(values)])


def _reached(recall: Array) -> Array:
    """How many of `RECALLS` are not above each value: about as many as it has hundredths."""
    near = np.minimum(recall * (len(RECALLS) - 1), len(RECALLS) - 1).astype(np.intp)
    return near + (recall >= RECALLS[near]) + (recall >= _NEXT_RECALLS[near])


def _best_from_here(precision: Array, rows: Array) -> Array:
    """The largest precision of each position and those after it in its row; rows ascend."""
    # From the end, with 2 more for each row before: no value of a row reaches into the next.
    ranked = (precision - 2.0 * rows)[::-1]
    is_best = ranked >= np.maximum.accumulate(ranked)
    best = np.maximum.accumulate(np.where(is_best, np.arange(len(rows)), 0))
    return precision[::-1][best][::-1]
