"""The consumer `coral`: Edge TPUs with pycoral.

`get_objects` of pycoral 2.0 reads a file with a signature by the names output_0 (count), output_1 (scores),
output_2 (classes) and output_3 (boxes); without one, and before 2.0 always, by the order boxes, classes,
scores, count. This serves all of them. 2.0 looks at every row, whatever the count says. `set_input` writes a
uint8 image; int8 is for code of one's own on top of libedgetpu. `get_scores` dequantizes the output of a
classifier.
"""

from __future__ import annotations

from collections.abc import Iterator

from export.consumers.consumer import Consumer, Output, add_consumer

_SOURCES = "https://github.com/google-coral/pycoral/blob/master/pycoral/adapters"
_TENSOR = "TFLite_Detection_PostProcess"


def _for_edge_tpu(network: bytes) -> bytes:
    from effkeras.litert.edge_tpu import for_edge_tpu

    return for_edge_tpu(network)


def _problems(network: bytes) -> Iterator[str]:
    from export.preflight import check_for

    found = check_for(network, "edgetpu")
    if not found.passed:
        yield f"an Edge TPU does not run the whole network, but {found.summary()}"


CORAL = add_consumer(
    Consumer(
        name="coral",
        summary="Edge TPUs with pycoral: detect.get_objects, classify.get_classes",
        models=("classifier", "detector"),
        formats=("int8",),
        io=("uint8", "int8"),
        nms=("postprocess", "soft", "hard"),
        outputs=(
            Output("detection_boxes", "output_3", _TENSOR),
            Output("detection_classes", "output_2", f"{_TENSOR}:1"),
            Output("detection_scores", "output_1", f"{_TENSOR}:2"),
            Output("num_detections", "output_0", f"{_TENSOR}:3"),
        ),
        probabilities=True,
        takes_mixed=False,  # all that follows a layer in float would be left to the CPU
        rewrite=_for_edge_tpu,
        problems=_problems,
        sources=(f"{_SOURCES}/detect.py", f"{_SOURCES}/classify.py"),
    )
)
