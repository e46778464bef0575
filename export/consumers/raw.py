"""The consumer `raw`: the user's own code."""

from __future__ import annotations

from export.consumers.consumer import RAW, Consumer, Output, add_consumer

_NAMES = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")

OWN_CODE = add_consumer(
    Consumer(
        name=RAW,
        summary="the model's own outputs, for your own code; anchors and labels in the metadata",
        models=(),
        io=("float32", "uint8", "int8"),
        nms=("none", "soft", "hard"),
        outputs=tuple(Output(name, name, name) for name in _NAMES),
    )
)
