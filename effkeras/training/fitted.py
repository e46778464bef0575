"""What a training fits to its data: a new detector's anchors, and weights that make up for rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from effkeras.data.records import ClassificationData, DetectionData, LabelledData
from effkeras.definitions.definition import ModelSpec, detector_parts, spec_from_table
from effkeras.detection.anchor_fit import Fit, fit, input_boxes, is_better, suggest_anchors
from effkeras.support.console import note
from effkeras.support.tables import read_toml
from effkeras.training.run import Run

Anchors = Literal["auto", "own"]
_POOR = 0.8  # below this share of covered boxes a class is found badly, whatever else is done
# Of n examples of a class, (1 - beta ** n) / (1 - beta) count. Cui et al. use 0.9 to 0.9999; this one bounds
# the ratio of two weights by 1,000.
_BETA = 0.999


def with_fitted_anchors(spec: ModelSpec, data: LabelledData, run: Run) -> ModelSpec:
    """The definition with the anchors that fit a data set best at the model's input size.

    The model's own stay if others gain little. A run that exists keeps its anchors. Heads that are trained
    already know their anchors only: do not change those.
    """
    if not spec.detects or not isinstance(data, DetectionData):
        return spec
    if run.definition.is_file():
        stored = spec_from_table(read_toml(run.definition), str(run.definition))
        return spec if stored.anchors is None else spec.replace(anchors=stored.anchors)
    own = fit(input_boxes(data, spec.input), spec, len(data.labels))
    best = suggest_anchors(data, spec)
    if not is_better(best, own, by_iou=False):  # at a closer fit alone, the boxes only change their level
        best = own
    if best.anchors != detector_parts(spec).anchors:
        note(f"anchors fitted to the data: {_text(best, data)}; the model's own: {_text(own, data)}")
    if best.worst < _POOR:
        note(
            f"anchors at {_size(best)} pixels cover {best.worst:.0%} of the class {_worst(best, data)!r}; "
            "a larger --input would help: `effkeras data check --model` says which"
        )
    return spec.replace(anchors=best.anchors)


def _text(one: Fit, data: DetectionData) -> str:
    ratios = ", ".join(f"{ratio:g}" for ratio in one.anchors.aspect_ratios)
    return (
        f"scale {one.anchors.scale:g}, aspect ratios {ratios} "
        f"(cover {one.worst:.0%} of the class {_worst(one, data)!r})"
    )


def _worst(one: Fit, data: DetectionData) -> str:
    return data.labels[int(np.nanargmin(one.covered))]


def _size(one: Fit) -> str:
    return " x ".join(map(str, one.size))


def class_counts(data: LabelledData, classes: int) -> np.ndarray:
    """Images, or boxes that are no crowds, of each class: int64 (classes,)."""
    if isinstance(data, ClassificationData):
        found = [np.array([record.label for record in data.records], np.int64)]
    else:
        found = [record.classes[~record.crowd] for record in data.records]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *found]), minlength=classes)


def balanced_weights(counts: Sequence[int] | np.ndarray) -> tuple[float, ...]:
    """A factor for each class: the inverse of its effective number of examples (Cui et al. 2019).

    The mean over all examples is 1, so that the sum of a loss keeps its size beside other losses. A class
    without examples gets 1.

    Args:
        counts: the examples of each class, (classes,).
    """
    counts = np.asarray(counts, np.float64)
    seen = counts > 0
    effective = (1 - _BETA**counts) / (1 - _BETA)
    weights = np.divide(1.0, effective, out=np.ones_like(counts), where=seen)
    if seen.any():
        weights[seen] *= counts.sum() / (weights * counts).sum()
    return tuple(map(float, weights))


def repeat_factors(classes: Sequence[np.ndarray]) -> tuple[float, ...]:
    """How often to draw each image, relative to the others, so that rare classes are seen more (LVIS).

    A class in a share f of the images has the factor sqrt(t / f), an image the largest of its classes (Gupta
    et al. 2019). Their t of 0.001 is for 1,000 classes; here it is the largest f. An image without objects
    has 1.

    Args:
        classes: the class indices of each image's objects.
    """
    most = 1 + max((int(one.max()) for one in classes if len(one)), default=0)
    images = np.zeros(most)
    for one in classes:
        images[np.unique(one)] += 1
    factors = np.sqrt(images.max() / np.maximum(images, 1))
    return tuple(float(factors[one].max()) if len(one) else 1.0 for one in classes)
