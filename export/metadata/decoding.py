"""The metadata from which MediaPipe's ObjectDetector decodes raw boxes and scores.

A detector without NMS in its graph stores its anchors in it; see `detector_schema.toml`.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.detection.anchors import anchor_boxes
from effkeras.litert.flat_records import DamagedError, Record, Schema, read_record, read_schema, write_record
from effkeras.support.errors import EffkerasError
from export.metadata.records import Metadata

ENTRY = "DETECTOR_METADATA"
SCHEMA = Path(__file__).with_name("detector_schema.toml")
_VERSION = "1.0.0"


def detector_options(spec: ModelSpec) -> bytes:
    """The anchors of a detector and the decoding of its outputs, for `Metadata.custom[ENTRY]`."""
    anchors = _centers(anchor_boxes(spec), spec.input.size)
    record = {
        "min_parser_version": _VERSION,
        "ssd_anchors_options": {"fixed_anchors_schema": {"anchors": anchors}},
        "tensors_decoding_options": {
            "num_classes": spec.classes,
            "num_boxes": len(anchors),
            "num_coords": 4,
            "keypoint_coord_offset": 0,
            "num_keypoints": 0,
            "num_values_per_keypoint": 2,
            **{f"{side}_scale": 1.0 for side in "xywh"},
            "apply_exponential_on_box_size": True,
            "sigmoid_score": True,
        },
    }
    return write_record(record, _schema())


def anchors_in(metadata: Metadata) -> np.ndarray | None:
    """The anchors in a detector's metadata; None if there are none.

    Returns:
        float32 (N, 4): ymin, xmin, ymax, xmax in 0..1 of the image.

    Raises:
        EffkerasError: the entry is damaged.
    """
    data = metadata.custom.get(ENTRY)
    if data is None:
        return None
    try:
        record = read_record(data, _schema())
    except DamagedError as error:
        raise EffkerasError(f"the anchors in the metadata are damaged ({error})") from error
    schema = record.get("ssd_anchors_options", {}).get("fixed_anchors_schema", {})
    keys = ("y_center", "x_center", "height", "width")
    anchors = np.array([[one.get(key, 0) for key in keys] for one in schema.get("anchors", ())], np.float32)
    centers, half = anchors.reshape(-1, 4)[:, :2], anchors.reshape(-1, 4)[:, 2:] / 2
    return np.concatenate([centers - half, centers + half], axis=-1)


@functools.cache
def _schema() -> Schema:
    return read_schema(SCHEMA)


def _centers(boxes: np.ndarray, size: tuple[int, int]) -> list[Record]:
    relative = boxes / np.array([*size, *size], np.float32)
    sides = relative[:, 2:] - relative[:, :2]
    centers = (relative[:, :2] + relative[:, 2:]) / 2
    rows = np.concatenate([centers[:, ::-1], sides[:, ::-1]], axis=-1).tolist()
    return [dict(zip(("x_center", "y_center", "width", "height"), row, strict=True)) for row in rows]
