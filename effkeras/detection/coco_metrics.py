"""COCO's detection metrics, computed by faster-coco-eval (the reference evaluator in C++)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effkeras.data.records import DetectionData, DetectionRecord
from effkeras.detection.nms import Detections
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import without_garbage_collection

_NAMES = {
    "AP": "AP_all",
    "AP50": "AP_50",
    "AP75": "AP_75",
    "APs": "AP_small",
    "APm": "AP_medium",
    "APl": "AP_large",
    "AR": "AR_third",
}


def coco_metrics(data: DetectionData, found: Mapping[int, Detections]) -> dict[str, float]:
    """AP averaged over IoU 0.5 to 0.95, AP50, AP75, AP by size, and AR with 100 detections.

    Args:
        data: the true boxes. Classes without true boxes are ignored.
        found: detections by image id, boxes in image pixels, with the classes of `data`. Only these
            images are evaluated.

    Returns:
        Metrics between 0 and 1, without those of sizes that have no true box.

    Raises:
        EffkerasError: there is no image to evaluate, or the images have no true boxes except crowds.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    records = [
        record.with_unknown_as_crowds(len(data.labels)) for record in data.records if record.image_id in found
    ]
    if all(record.crowd.all() for record in records):
        raise EffkerasError(f"{data.root}: the split {data.split!r} has no ground-truth boxes")
    if not any(len(one) for one in found.values()):
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"), 0.0)
    head = _head(data, records)
    with without_garbage_collection():
        # Not by `loadRes`, which adds an outline to each box.
        truth, detections = (
            COCO({**head, "annotations": one}) for one in (_truths(records), _detections(found))
        )
        judge = COCOeval_faster(truth, detections, "bbox", print_function=_silent)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    stats = judge.stats_as_dict
    return {ours: float(stats[theirs]) for ours, theirs in _NAMES.items() if stats[theirs] >= 0}


def _head(data: DetectionData, records: Sequence[DetectionRecord]) -> dict[str, Any]:
    images = [{"id": r.image_id, "height": r.size[0], "width": r.size[1]} for r in records]
    categories = [{"id": label, "name": name} for label, name in enumerate(data.labels)]
    return {"images": images, "categories": categories}


def _truths(records: Sequence[DetectionRecord]) -> list[dict[str, Any]]:
    columns = _columns([one.image_id for one in records], [one.boxes for one in records])
    labels, areas, crowds = (
        np.concatenate([getattr(one, name) for one in records]) for name in ("classes", "areas", "crowd")
    )
    rows = zip(*columns, labels.tolist(), areas.tolist(), crowds.astype(int).tolist(), strict=True)
    return [
        {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": crowd}
        for number, (image, box, label, area, crowd) in enumerate(rows, start=1)
    ]


def _detections(found: Mapping[int, Detections]) -> list[dict[str, Any]]:
    images, boxes = _columns(list(found), [one.boxes for one in found.values()])
    labels, scores = (
        np.concatenate([getattr(one, name) for one in found.values()]).tolist()
        for name in ("classes", "scores")
    )
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": score,
        }
        for number, (image, box, label, score) in enumerate(
            zip(images, boxes, labels, scores, strict=True), start=1
        )
    ]


def _columns(ids: Sequence[int], boxes: Sequence[np.ndarray]) -> tuple[list[int], list[list[float]]]:
    """The image id of each box, and its xmin, ymin, width and height."""
    ymin, xmin, ymax, xmax = np.concatenate(boxes).astype(np.float64).T
    sides = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1)
    return np.repeat(ids, [len(one) for one in boxes]).tolist(), sides.tolist()


def _silent(*_: object) -> None:
    """Discards the table that the evaluator prints."""
