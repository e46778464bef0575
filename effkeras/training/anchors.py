"""A new detector's anchors: the model's own, or those that fit the boxes it is trained on."""

from __future__ import annotations

from typing import Literal

import numpy as np

from effkeras.data.records import DetectionData, LabelledData
from effkeras.definitions.definition import ModelSpec, detector_parts, spec_from_table
from effkeras.detection.anchor_fit import Fit, fit, input_boxes, is_better, suggest_anchors
from effkeras.support.console import note
from effkeras.support.tables import read_toml
from effkeras.training.run import Run

Anchors = Literal["auto", "own"]
_POOR = 0.8  # below this share of covered boxes a class is found badly, whatever else is done


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
