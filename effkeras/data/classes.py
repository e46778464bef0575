"""The classes of a data set, and definitions that get them."""

from __future__ import annotations

from dataclasses import dataclass

from effkeras.data.records import DetectionData, LabelledData
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError


@dataclass(frozen=True, slots=True)
class Classes:
    """Names of classes; `category_ids` are those of boxes, in the same order, and () without boxes."""

    labels: tuple[str, ...]
    category_ids: tuple[int, ...] = ()

    def given_to(self, spec: ModelSpec) -> ModelSpec:
        """The definition with these classes."""
        return spec.replace(classes=len(self.labels), labels=self.labels, category_ids=self.category_ids)


def classes_for(spec: ModelSpec, data: LabelledData) -> Classes:
    """The classes of data that a definition can learn from; EffkerasError for data that do not fit it."""
    if spec.is_detector != isinstance(data, DetectionData) or (spec.detects and not _has_boxes(data)):
        wanted = "pictures with boxes (COCO)" if spec.is_detector else "a folder per class"
        raise EffkerasError(f"{data.root} does not fit {spec.name}, which needs {wanted}")
    ids = tuple(one.id for one in data.categories) if isinstance(data, DetectionData) else ()
    return Classes(tuple(data.labels), ids)


def spec_for_data(spec: ModelSpec, data: LabelledData) -> ModelSpec:
    """The definition with the classes of the data set; EffkerasError like `classes_for`."""
    return classes_for(spec, data).given_to(spec)


def _has_boxes(data: LabelledData) -> bool:
    return isinstance(data, DetectionData) and any(len(record.boxes) for record in data.records)
