"""The consumer `coral`: Edge TPUs with pycoral.

If a file has a signature, `get_objects` of pycoral 2.0 finds outputs by the names output_0 (count), output_1
(scores), output_2 (classes) and output_3 (boxes). Without a signature, and in all versions before 2.0, it
uses the order boxes, classes, scores, count. The outputs here suit both. Version 2.0 reads every row,
whatever the count. `set_input` writes a uint8 image; int8 is for the user's own code with libedgetpu.
`get_scores` dequantizes the output of a classifier.

`read_label_file` takes a number at the start of a line for that of the class: "2 euro" would name class 2.
Lines that all begin with their number, as here, are read right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from export.consumers.consumer import Consumer, Output, add_consumer

_SOURCES = "https://github.com/google-coral/pycoral/blob/master/pycoral"
_TENSOR = "TFLite_Detection_PostProcess"


def _for_edge_tpu(network: bytes) -> bytes:
    from effkeras.litert.edge_tpu import for_edge_tpu

    return for_edge_tpu(network)


def _problems(network: bytes) -> Iterator[str]:
    from export.preflight import check_for

    found = check_for(network, "edgetpu")
    if not found.passed:
        yield f"an Edge TPU does not run the whole network, but {found.summary()}"


def numbered(labels: Sequence[str]) -> str:
    """A label file in the form that pycoral reads right whatever the names: "0  cat", a line a class."""
    return "".join(f"{number}  {label}\n" for number, label in enumerate(labels))


CORAL = add_consumer(
    Consumer(
        name="coral",
        summary="Edge TPUs with pycoral: detect.get_objects, classify.get_classes",
        models=("classifier", "detector"),
        formats=("int8",),
        io=("uint8", "int8"),
        nms=("soft", "postprocess", "hard"),
        outputs=(
            Output("detection_boxes", "output_3", _TENSOR),
            Output("detection_classes", "output_2", f"{_TENSOR}:1"),
            Output("detection_scores", "output_1", f"{_TENSOR}:2"),
            Output("num_detections", "output_0", f"{_TENSOR}:3"),
        ),
        probabilities=True,
        takes_mixed=False,  # the CPU would run everything after a float layer
        rewrite=_for_edge_tpu,
        problems=_problems,
        label_file=numbered,
        sources=(
            f"{_SOURCES}/adapters/detect.py",
            f"{_SOURCES}/adapters/classify.py",
            f"{_SOURCES}/utils/dataset.py",
        ),
    )
)
