"""What a split holds: digests of its image names and labels, by which work that goes on knows its data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# numpy, and what needs it, is imported in functions: `--help` of most commands reads this module.
if TYPE_CHECKING:
    import numpy as np

    from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData, Mask


@dataclass(frozen=True, slots=True)
class Contents:
    """The numbers of images and annotations of a split, and digests of image names, class names and labels.

    They do not depend on where the folder is, nor on the pixels of the images.
    """

    images: int
    annotations: int
    files: str
    classes: str
    labels: str

    @classmethod
    def of(cls, data: LabelledData) -> Contents:
        """The contents of a split."""
        files = hashlib.sha256()
        for record in data.records:
            files.update(_name(record.path, data.root))
        return cls(
            images=len(data.records),
            annotations=sum(_annotations(record) for record in data.records),
            files=files.hexdigest(),
            classes=hashlib.sha256(repr(data.labels).encode()).hexdigest(),
            labels=contents(data),
        )

    def changes(self, before: Contents) -> str:
        """How this differs from what was there before, in a few words; "" if it does not."""
        if self.images != before.images:
            return f"{self.images:,} images, where there were {before.images:,}"
        if self.classes != before.classes:
            return "other names of classes"
        if self.files != before.files:
            return f"{self.images:,} images as before, with other names or in another order"
        if self.annotations != before.annotations:
            return f"{self.annotations:,} annotations, where there were {before.annotations:,}"
        return "" if self.labels == before.labels else "the same images with other labels"


def _annotations(record: ClassificationRecord | DetectionRecord) -> int:
    from effkeras.data.records import ClassificationRecord

    return 1 if isinstance(record, ClassificationRecord) else len(record.classes)


def contents(data: LabelledData) -> str:
    """A digest of a split's image names and labels; it does not depend on where the folder is."""
    from effkeras.data.records import DetectionData

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
    from effkeras.data.records import ClassificationRecord

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
    from effkeras.data.records import Polygons

    if mask is None:
        return ()
    return mask.points if isinstance(mask, Polygons) else (mask.counts,)
