"""The consumer `mediapipe`: MediaPipe Tasks.

A detector has exactly four outputs. MediaPipe identifies them by their names in the *metadata*, or else by
the order below. Boxes are ymin, xmin, ymax, xmax in 0..1. The input is uint8, or float32 with
NormalizationOptions; int8 is refused. Rows after the count are not read. MediaPipe stretches the image to the
input size, without letterboxing.
"""

from __future__ import annotations

from export.consumers.consumer import Consumer, Output, add_consumer

_SOURCES = "https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/cc/vision"

MEDIAPIPE = add_consumer(
    Consumer(
        name="mediapipe",
        summary="MediaPipe Tasks: ObjectDetector, ImageClassifier",
        models=("classifier", "detector"),
        io=("uint8", "float32"),
        nms=("soft", "postprocess", "hard"),
        outputs=(
            Output("detection_boxes", "location", "location"),
            Output("detection_classes", "category", "category"),
            Output("detection_scores", "score", "score"),
            Output("num_detections", "number of detections", "number of detections"),
        ),
        probabilities=True,
        sources=(
            f"{_SOURCES}/object_detector/object_detector_graph.cc",
            f"{_SOURCES}/utils/image_tensor_specs.cc",
        ),
    )
)
