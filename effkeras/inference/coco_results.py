"""COCO's format of results: a list of boxes with the ids of their images and categories.

The format: https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.data.records import DetectionData
from effkeras.definitions.class_names import class_key
from effkeras.definitions.definition import ModelSpec
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_text


@dataclass(frozen=True, slots=True)
class ResultIds:
    """The id of each image, and the category id of each class index; None for a class without one."""

    images: Mapping[Path, int]
    categories: Sequence[int | None]

    @classmethod
    def numbered(cls, spec: ModelSpec, paths: Sequence[Path]) -> ResultIds:
        """Images are numbered from 1 in their order. Categories are the definition's, else from 1 as well."""
        categories = spec.category_ids or range(1, spec.classes + 1)
        return cls({path: number for number, path in enumerate(paths, start=1)}, tuple(categories))

    @classmethod
    def of_data(cls, spec: ModelSpec, paths: Sequence[Path], data: DetectionData) -> ResultIds:
        """The ids of a data set: of the image with the same file, else file name; of the class by its name.

        Raises EffkerasError for an image that the data set lacks or has twice.
        """
        places = {record.path.resolve(): record.image_id for record in data.records}
        counts = Counter(record.path.name for record in data.records)
        names = {record.path.name: record.image_id for record in data.records}
        images = {}
        for path in paths:
            number = places.get(path.resolve(), names.get(path.name))
            if number is None or (path.resolve() not in places and counts[path.name] > 1):
                count = counts[path.name]
                raise EffkerasError(
                    f"{path}: {data.root} has {count or 'no'} images of this name in its split "
                    f"{data.split!r}; give images of that split"
                )
            images[path] = number
        return cls(images, _categories(spec, data))


def _categories(spec: ModelSpec, data: DetectionData) -> tuple[int | None, ...]:
    if not spec.labels:
        return tuple(spec.category_ids or range(1, spec.classes + 1))
    known = {class_key(one.name): one.id for one in data.categories}
    return tuple(known.get(class_key(label)) for label in spec.labels)


def write_results(records: Iterable[Mapping[str, Any]], ids: ResultIds, file: Path) -> int:
    """Writes the detections of `predict`'s records, and returns their number.

    Those of classes without a category id are left out, which is noted.
    """
    rows = [
        {
            "image_id": ids.images[Path(record["image"])],
            "category_id": ids.categories[one["class"]],
            "bbox": _xywh(one["box"]),
            "score": one["score"],
        }
        for record in records
        for one in record["detections"]
    ]
    kept = [row for row in rows if row["category_id"] is not None]
    if len(kept) < len(rows):
        note_once(f"{file}: left out {len(rows) - len(kept)} boxes of classes that the data set lacks")
    write_text(file, json.dumps(kept) + "\n")
    return len(kept)


def _xywh(box: Sequence[float]) -> list[float]:
    ymin, xmin, ymax, xmax = box
    return [xmin, ymin, xmax - xmin, ymax - ymin]
