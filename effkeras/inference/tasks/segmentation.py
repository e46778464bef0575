"""Segmentation: a class for each pixel, judged by the mean intersection over union."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from effkeras.data.masks import MaskClasses, label_map
from effkeras.data.preprocess import Placement
from effkeras.data.records import DetectionData, DetectionRecord, LabelledData, RunLengths
from effkeras.data.segmentations import encode_rle, pixels_of
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.segmentation import Confusion, decode_mask
from effkeras.inference.task import (
    TASKS,
    Breakdown,
    Describe,
    Details,
    Drawing,
    Judge,
    Outputs,
    Record,
    Task,
    names_of,
)


class Segmentation(Task):
    """One mask per class, at the size of the image."""

    model = "segmenter"
    metric = "mIoU"
    meaning = "mIoU is the mean intersection over union of all mask classes, in image pixels; 1 is best."

    def applies(self, spec: ModelSpec) -> bool:
        """See `Task`."""
        return spec.segments

    def describe(self, spec: ModelSpec, min_score: float) -> Describe:
        """See `Task`."""

        def run(outputs: Outputs, placement: Placement) -> dict[str, Any]:
            return {"masks": _rows(decode_mask(outputs["mask_logits"], placement), spec)}

        return run

    def draw(self, record: Mapping[str, Any], drawing: Drawing) -> None:
        """See `Task`. A mask has the same colour as bounding boxes of its class."""
        for one in record.get("masks", []):
            size = tuple(one["segmentation"]["size"])
            inside = pixels_of(RunLengths(np.array(one["segmentation"]["counts"])), size)
            drawing.add_mask(inside, one["class"] - 1)

    def judge(self, spec: ModelSpec, data: LabelledData) -> Judge:
        """See `Task`."""
        assert isinstance(data, DetectionData)
        names = names_of(spec.mask_labels or ("",) * spec.mask_classes)
        return _Judge(MaskClasses.of(spec, data), Confusion(spec.mask_classes), names)


TASKS.register("segmentation")(Segmentation())


@dataclass(eq=False, slots=True)
class _Judge:
    """Mean intersection over union, in image pixels."""

    classes: MaskClasses
    confusion: Confusion
    names: tuple[str, ...]

    def add(self, record: Record, placement: Placement, outputs: Outputs) -> None:
        assert isinstance(record, DetectionRecord)
        truth = label_map(record, self.classes, placement.size)
        self.confusion.add(truth, decode_mask(outputs["mask_logits"], placement))

    def metrics(self) -> dict[str, float]:
        return self.confusion.metrics()

    def outcomes(self) -> None:
        """None: the metric is computed from the pixels of all images together."""

    def details(self, score: float | None = None) -> Details:
        return Details(self.names, self.confusion.counts)

    def breakdown(self, score: float | None = None) -> Breakdown:
        pairs = zip(self.names, self.confusion.ious().tolist(), strict=True)
        return Breakdown({}, {name: {"IoU": value} for name, value in pairs if not math.isnan(value)})


def _rows(labels: np.ndarray, spec: ModelSpec) -> list[dict[str, Any]]:
    names = spec.mask_labels
    return [
        {
            "label": names[value] if names else str(value),
            "class": int(value),
            "pixels": int((labels == value).sum()),
            "segmentation": encode_rle(labels == value),
        }
        for value in np.unique(labels)
        if value > 0
    ]
