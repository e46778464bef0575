"""Digests of weights and of labelled images, by which a rerun recognizes its earlier results."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from effkeras.data.records import (
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
    LabelledData,
    Mask,
    Polygons,
)


def fingerprint(model: keras.Model) -> str:
    """A digest of all weights."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def contents(data: LabelledData) -> str:
    """A digest of a split's image names and labels; it does not depend on where the folder is."""
    digest = hashlib.sha256(repr(data.labels).encode())
    if isinstance(data, DetectionData) and data.map_classes is not None:
        digest.update(repr(data.map_classes).encode())
    for record in data.records:
        digest.update(_name(record.path, data.root))
        for part in _labels(record, data.root):
            digest.update(part)
    return digest.hexdigest()


def _name(path: Path, root: Path) -> bytes:
    return repr(Path(os.path.relpath(path, root)).as_posix()).encode()


def _labels(record: ClassificationRecord | DetectionRecord, root: Path) -> Iterator[bytes]:
    if isinstance(record, ClassificationRecord):
        yield str(record.label).encode()
        return
    yield from (values.tobytes() for values in (record.classes, record.boxes, record.crowd))
    if isinstance(record.masks, Path):
        yield _name(record.masks, root)
        return
    for mask in record.masks:
        lines = _lines(mask)
        yield repr([len(line) for line in lines]).encode()
        yield from (line.tobytes() for line in lines)


def _lines(mask: Mask | None) -> tuple[np.ndarray, ...]:
    if mask is None:
        return ()
    return mask.points if isinstance(mask, Polygons) else (mask.counts,)
