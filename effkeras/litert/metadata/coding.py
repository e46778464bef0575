"""Converts metadata to and from the bytes of the published schemas.

`schema.toml` is that of TFLite Metadata. `detector_schema.toml` is that of the entry DETECTOR_METADATA, in
which a detector without NMS in its graph stores its anchors; MediaPipe's ObjectDetector decodes the raw boxes
and scores with it.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.detection.boxes import anchor_boxes
from effkeras.litert.archive import read_files
from effkeras.litert.flat_records import DamagedError, Record, Schema, read_record, read_schema, write_record
from effkeras.litert.metadata import records
from effkeras.litert.metadata.records import (
    AssociatedFile,
    Boxes,
    Content,
    Features,
    Group,
    Image,
    Metadata,
    Normalization,
    ScoreCalibration,
    ScoreThreshold,
    TensorMetadata,
    Unit,
    parser_version,
)
from effkeras.litert.rewriting import attached
from effkeras.support.errors import EffkerasError

SCHEMA = Path(__file__).with_name("schema.toml")
DETECTOR_SCHEMA = Path(__file__).with_name("detector_schema.toml")
DETECTOR_ENTRY = "DETECTOR_METADATA"
_DETECTOR_VERSION = "1.0.0"
TABLE = "TFLITE_METADATA"


def to_bytes(metadata: Metadata) -> bytes:
    """The metadata table with the lowest parser version that can read it, without the associated files."""
    record = {
        "name": metadata.name,
        "description": metadata.description,
        "version": metadata.version,
        "author": metadata.author,
        "license": metadata.license,
        "subgraph_metadata": [_graph_record(metadata)],
        "associated_files": [_file_record(note) for note in metadata.notes],
        "min_parser_version": parser_version(metadata),
    }
    return write_record(record, _schema())


def from_bytes(data: bytes, files: Mapping[str, bytes]) -> Metadata:
    """The inverse of `to_bytes`; fields that only text and audio models use are ignored.

    Raises EffkerasError for bytes that are not TFLite Metadata.
    """
    try:
        record = read_record(data, _schema())
    except DamagedError as error:
        raise EffkerasError(f"the TFLite Metadata is damaged ({error}); export the model again") from error
    graph: Record = next(iter(record.get("subgraph_metadata", ())), {})
    return Metadata(
        **{key: record.get(key, "") for key in ("name", "description", "version", "author", "license")},
        inputs=tuple(map(_tensor, graph.get("input_tensor_metadata", ()))),
        outputs=tuple(map(_tensor, graph.get("output_tensor_metadata", ()))),
        files=files,
        groups=tuple(map(_group, graph.get("output_tensor_groups", ()))),
        notes=tuple(map(_file, (*record.get("associated_files", ()), *graph.get("associated_files", ())))),
        custom={one.get("name", ""): _bytes(one.get("data")) for one in graph.get("custom_metadata", ())},
    )


def parser_version_in(data: bytes) -> str:
    """The `min_parser_version` in a metadata table."""
    return str(read_record(data, _schema()).get("min_parser_version", ""))


@functools.cache
def _schema() -> Schema:
    return read_schema(SCHEMA)


def _graph_record(metadata: Metadata) -> Record:
    return {
        "input_tensor_metadata": [_tensor_record(note) for note in metadata.inputs],
        "output_tensor_metadata": [_tensor_record(note) for note in metadata.outputs],
        "output_tensor_groups": [
            {"name": group.name, "tensor_names": group.tensors} for group in metadata.groups
        ],
        "custom_metadata": [
            {"name": name, "data": memoryview(data)} for name, data in metadata.custom.items()
        ],
    }


def _tensor_record(note: TensorMetadata) -> Record:
    record: Record = {
        "name": note.name,
        "description": note.description,
        "dimension_names": note.axes,
        "process_units": [{"options": _unit_record(unit)} for unit in note.units],
        "associated_files": [_file_record(one) for one in note.files],
    }
    if note.low or note.high:
        record["stats"] = {"max": note.high, "min": note.low}
    if note.content is not None:
        record["content"] = _content_record(note.content)
    return record


def _content_record(content: Content) -> Record:
    record: Record = {}
    if content.properties is not None:
        record["content_properties"] = _properties_record(content.properties)
    if content.dimensions is not None:
        record["range"] = dict(zip(("min", "max"), content.dimensions, strict=True))
    return record


def _properties_record(properties: Image | Boxes | Features) -> tuple[str, Record]:
    if isinstance(properties, Features):
        return "FeatureProperties", {}
    if isinstance(properties, Boxes):
        return "BoundingBoxProperties", {
            "index": properties.index,
            "type": _number(records.BoxKind, properties.kind),
            "coordinate_type": _number(records.Coordinates, properties.coordinates),
        }
    record: Record = {"color_space": _number(records.ColorSpace, properties.color_space)}
    if properties.size is not None:
        record["default_size"] = dict(zip(("height", "width"), properties.size, strict=True))
    return "ImageProperties", record


def _unit_record(unit: Unit) -> tuple[str, Record]:
    if isinstance(unit, Normalization):
        return "NormalizationOptions", {"mean": unit.mean, "std": unit.std}
    if isinstance(unit, ScoreThreshold):
        return "ScoreThresholdingOptions", {"global_score_threshold": unit.score}
    return "ScoreCalibrationOptions", {
        "score_transformation": _number(records.ScoreTransformation, unit.transformation),
        "default_score": unit.default_score,
    }


def _file_record(note: AssociatedFile) -> Record:
    return {
        "name": note.name,
        "description": note.description,
        "type": _number(records.FileKind, note.kind),
        "locale": note.locale,
        "version": note.version,
    }


def _tensor(record: Record) -> TensorMetadata:
    stats = record.get("stats", {})
    return TensorMetadata(
        name=record.get("name", ""),
        description=record.get("description", ""),
        content=_content(record["content"]) if "content" in record else None,
        units=tuple(_units(record.get("process_units", ()))),
        low=_floats(stats.get("min", ())),
        high=_floats(stats.get("max", ())),
        files=tuple(map(_file, record.get("associated_files", ()))),
        axes=tuple(record.get("dimension_names", ())),
    )


def _content(record: Record) -> Content:
    span = record.get("range")
    dimensions = None if span is None else (span.get("min", 0), span.get("max", 0))
    name, properties = record.get("content_properties", ("", {}))
    return Content(_properties(name, properties), dimensions)


def _properties(name: str, record: Record) -> Image | Boxes | Features | None:
    if name == "ImageProperties":
        size = record.get("default_size")
        size = None if size is None else (size.get("height", 0), size.get("width", 0))
        return Image(_name(records.ColorSpace, record.get("color_space", 0)), size)
    if name == "BoundingBoxProperties":
        index = tuple(int(one) for one in record.get("index", ()))
        kind = _name(records.BoxKind, record.get("type", 0))
        return Boxes(index, kind, _name(records.Coordinates, record.get("coordinate_type", 0)))
    return Features() if name == "FeatureProperties" else None


def _units(process_units: Iterable[Record]) -> Iterable[Unit]:
    for record in process_units:
        name, options = record.get("options", ("", {}))
        if name == "NormalizationOptions":
            yield Normalization(_floats(options.get("mean", ())), _floats(options.get("std", ())))
        elif name == "ScoreCalibrationOptions":
            transformation = _name(records.ScoreTransformation, options.get("score_transformation", 0))
            yield ScoreCalibration(transformation, options.get("default_score", 0.0))
        elif name == "ScoreThresholdingOptions":
            yield ScoreThreshold(options.get("global_score_threshold", 0.0))


def _file(record: Record) -> AssociatedFile:
    texts = {key: record.get(key, "") for key in ("name", "description", "locale", "version")}
    return AssociatedFile(**texts, kind=_name(records.FileKind, record.get("type", 0)))


def _group(record: Record) -> Group:
    return Group(record.get("name", ""), tuple(record.get("tensor_names", ())))


def _bytes(data: Any) -> bytes:
    return b"" if data is None else data.tobytes()


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _number(names: Any, name: str) -> int:
    return typing.get_args(names).index(name)


def _name(names: Any, number: int) -> Any:
    """The schema's name for a number; numbers of newer schemas give the first, UNKNOWN if there is one."""
    known = typing.get_args(names)
    return known[number] if 0 <= number < len(known) else known[0]


def detector_options(spec: ModelSpec) -> bytes:
    """The anchors of a detector and the decoding of its outputs, for `Metadata.custom[DETECTOR_ENTRY]`."""
    anchors = _centers(anchor_boxes(spec), spec.input.size)
    record = {
        "min_parser_version": _DETECTOR_VERSION,
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
    return write_record(record, _detector_schema())


def anchors_in(metadata: Metadata) -> np.ndarray | None:
    """The anchors in a detector's metadata; None if there are none.

    Returns:
        float32 (N, 4): ymin, xmin, ymax, xmax in 0..1 of the image.

    Raises:
        EffkerasError: the entry is damaged.
    """
    data = metadata.custom.get(DETECTOR_ENTRY)
    if data is None:
        return None
    try:
        record = read_record(data, _detector_schema())
    except DamagedError as error:
        raise EffkerasError(f"the anchors in the metadata are damaged ({error})") from error
    schema = record.get("ssd_anchors_options", {}).get("fixed_anchors_schema", {})
    keys = ("y_center", "x_center", "height", "width")
    anchors = np.array([[one.get(key, 0) for key in keys] for one in schema.get("anchors", ())], np.float32)
    centers, half = anchors.reshape(-1, 4)[:, :2], anchors.reshape(-1, 4)[:, 2:] / 2
    return np.concatenate([centers - half, centers + half], axis=-1)


@functools.cache
def _detector_schema() -> Schema:
    return read_schema(DETECTOR_SCHEMA)


def _centers(boxes: np.ndarray, size: tuple[int, int]) -> list[Record]:
    relative = boxes / np.array([*size, *size], np.float32)
    sides = relative[:, 2:] - relative[:, :2]
    centers = (relative[:, :2] + relative[:, 2:]) / 2
    rows = np.concatenate([centers[:, ::-1], sides[:, ::-1]], axis=-1).tolist()
    return [dict(zip(("x_center", "y_center", "width", "height"), row, strict=True)) for row in rows]


def read(flatbuffer: bytes) -> Metadata | None:
    """The TFLite Metadata of a file; None if the file has none.

    Raises EffkerasError when the .tflite, its metadata or its associated files are damaged.
    """
    table = attached(flatbuffer, TABLE)
    return from_bytes(table, read_files(flatbuffer)) if table else None
