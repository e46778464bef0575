"""COCO's detection metrics, computed by faster-coco-eval (the reference evaluator in C++)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from effkeras.data.records import DetectionData, DetectionRecord
from effkeras.detection.nms import Detections
from effkeras.support.errors import EffkerasError

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
    truth = _truth(data, records)
    if all(one["iscrowd"] for one in truth["annotations"]):
        raise EffkerasError(f"{data.root}: the split {data.split!r} has no ground-truth boxes")
    detections = _detections(found)
    if not detections:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"), 0.0)
    coco = COCO(truth)
    judge = COCOeval_faster(coco, coco.loadRes(detections), "bbox", print_function=_silent)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    stats = judge.stats_as_dict
    return {ours: float(stats[theirs]) for ours, theirs in _NAMES.items() if stats[theirs] >= 0}


def _truth(data: DetectionData, records: Sequence[DetectionRecord]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for record in records:
        for box, label, crowd, area in zip(
            record.boxes, record.classes, record.crowd, record.areas, strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": int(label),
                    "bbox": _xywh(box),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    images = [{"id": r.image_id, "height": r.size[0], "width": r.size[1]} for r in records]
    categories = [{"id": label, "name": name} for label, name in enumerate(data.labels)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _detections(found: Mapping[int, Detections]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": _xywh(box),
            "score": float(score),
        }
        for image_id, one in found.items()
        for box, score, label in zip(one.boxes, one.scores, one.classes, strict=True)
    ]


def _xywh(box: Any) -> list[float]:
    ymin, xmin, ymax, xmax = (float(value) for value in box)
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _silent(*_: object) -> None:
    """Discards the table that the evaluator prints."""
