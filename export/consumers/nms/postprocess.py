"""TFLite_Detection_PostProcess after a detector's heads: the operator that phones and Edge TPUs expect.

These facts are undocumented; they come from its source, detection_postprocess.cc of LiteRT:

- "Regular" NMS suppresses within a class. "Fast" NMS takes each anchor's best class and suppresses across
  classes, as `effkeras.detection.nms` does with `method = "hard"`, including the order of ties.
- The operator only compares scores. So it receives logits, and the sigmoid follows on the few scores that
  are kept: the result is exact, costs thousands of times less than on every anchor and class, and is finer
  than an 8-bit sigmoid, whose steps of 1/256 would turn most scores into ties. On an Edge TPU, the CPU takes
  over after the heads either way.
- Fast mode does not write the rows after the last detection; `export.consumers.nms.grafting` clears them.
"""

from __future__ import annotations

import math

from effkeras.litert.editor import GraphEditor, Result
from export.consumers.nms.suppression import Heads, Kept, Settings

OPERATOR = "TFLite_Detection_PostProcess"
_NEVER = -1e30
# The operator refuses a threshold of 0.
_SMALLEST_IOU = 1e-6


def postprocess(editor: GraphEditor, heads: Heads, settings: Settings) -> Kept:
    """Adds the operator, and the sigmoid on the scores that it keeps."""
    most = settings.nms.max_detections
    anchors = editor.constant("nms/anchors", settings.anchors)
    boxes, classes, logits, count = editor.add_custom(
        OPERATOR,
        [heads.deltas, heads.logits, anchors],
        [
            Result("nms/boxes", (1, most, 4)),
            Result("nms/classes", (1, most)),
            Result("nms/logits", (1, most)),
            Result("nms/count", (1,)),
        ],
        _options(settings, heads.logits.shape[-1]),
    )
    scores = editor.add("LOGISTIC", [logits], Result("nms/scores", (1, most)))
    return Kept(boxes, scores, classes, count)


def _options(settings: Settings, classes: int) -> bytes:
    from flatbuffers import flexbuffers

    nms = settings.nms
    options = {
        "max_detections": nms.max_detections,
        "max_classes_per_detection": 1,
        "detections_per_class": nms.max_detections,
        "use_regular_nms": False,
        "nms_score_threshold": _logit(nms.score_threshold),
        "nms_iou_threshold": max(nms.iou_threshold, _SMALLEST_IOU),
        "num_classes": classes,
        **dict.fromkeys(("y_scale", "x_scale", "h_scale", "w_scale"), 1.0),
    }
    return bytes(flexbuffers.Dumps(options))


def _logit(score: float) -> float:
    if score <= 0:
        return _NEVER
    return math.log(score / (1 - score)) if score < 1 else -_NEVER
