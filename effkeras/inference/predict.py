"""Predictions for images and videos: as records, as lines of JSON, as COCO's results and as drawings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effkeras.data.images import images_below, read_image
from effkeras.data.preprocess import fill, place
from effkeras.data.reading import ImageReader
from effkeras.data.records import DetectionData
from effkeras.definitions.class_names import class_key
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.predictor import KerasPredictor, Predictor
from effkeras.inference.task import TASKS, Drawing, tasks_of
from effkeras.inference.video import Frame, Video
from effkeras.support.console import note_once, warn
from effkeras.support.errors import EffkerasError
from effkeras.support.files import whole_file, write_text

_FEW = 4  # images
_DECIMALS = {"score": 4, "box": 1}  # in lines of JSON


def images_in(path: Path, without: Path | None = None) -> list[Path]:
    """The image itself, or all images in a folder and its sub-folders, sorted, apart from those in `without`.

    Other files are counted in a note. Raises EffkerasError if there are no images.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise EffkerasError(f"there is no image or folder {path}")
    found = images_below(path, without)
    if not found.images:
        others = f"; it has {found.left_out}" if found.others else ""
        raise EffkerasError(f"the folder {path} holds no images{others}")
    if found.others:
        warn(f"{path}: left out {found.left_out}; the first: {found.others[0]}")
    return list(found.images)


def predict(predictor: Predictor, paths: Sequence[Path], min_score: float) -> Iterator[dict[str, Any]]:
    """Yields one record per image, in order.

    A detector's record has `image` and `detections`, each with `label`, `class`, `score` and `box`
    (ymin, xmin, ymax, xmax in image pixels). With segmentation it has `masks`, one for each class found
    except the first (the background), with `label`, `class`, `pixels` and `segmentation` (COCO's run
    lengths at the image's size). A classifier's has the five most likely `classes`. An unreadable image is
    reported and skipped; if it is the only one, it raises EffkerasError. Notes at the end count such images.
    """
    describe = _describe_with(predictor.spec, _run_of(predictor, len(paths)), min_score)
    reader, bad = ImageReader(), 0
    for path in paths:
        try:
            image = reader.read(path)
        except EffkerasError as error:
            if len(paths) == 1:
                raise
            bad += 1
            warn(f"skipped: {error}")
            continue
        # "picture" is the previous version's name of "image".
        yield {"image": str(path), "picture": str(path), **describe(image)}
    reader.note_remarks(len(paths))
    if bad:
        warn(f"skipped {bad} of {len(paths)} images that cannot be read")


def predict_video(
    predictor: Predictor, video: Video, min_score: float, every: int = 1
) -> Iterator[tuple[Frame, dict[str, Any]]]:
    """Yields every frame of a video with a record, in order.

    A record is like an image's, with `video`, `frame` (its number, from 0) and `time` (seconds) instead of
    `image`. The predictor runs on every `every`-th frame; other frames repeat the last record.
    """
    describe = _describe_with(predictor.spec, predictor, min_score)
    record: dict[str, Any] = {}
    for frame in video:
        if frame.number % every == 0:
            where = {"video": str(video.path), "frame": frame.number, "time": round(frame.time, 6)}
            record = {**where, **describe(frame.pixels)}
        yield frame, record


_Run = Callable[[np.ndarray], dict[str, np.ndarray]]


def _run_of(predictor: Predictor, images: int) -> _Run:
    """How the predictor runs so many images one by one: a few of them are not worth tracing a Keras model."""
    return predictor.once if isinstance(predictor, KerasPredictor) and images <= _FEW else predictor


def _describe_with(spec: ModelSpec, run: _Run, min_score: float) -> Callable[[np.ndarray], dict[str, Any]]:
    """A function from an image, uint8 (h, w, 3), to its record; `run` as a `Predictor` of that definition."""
    parts = [task.describe(spec, min_score) for task in tasks_of(spec).values()]

    def describe(image: np.ndarray) -> dict[str, Any]:
        placed = place(image, spec.input)
        outputs = run(fill(placed.content, spec.input)[None])
        one = {name: values[0] for name, values in outputs.items()}
        return {key: value for part in parts for key, value in part(one, placed.placement).items()}

    return describe


def json_line(record: dict[str, Any]) -> str:
    """A record as a line of JSON, with scores to four decimals and boxes to one."""
    return json.dumps(_rounded(record))


def _rounded(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item, key) for item in value]
    return round(value, _DECIMALS[key]) if key in _DECIMALS else value


def draw(record: dict[str, Any], out: Path) -> None:
    """Draws a record of `predict` on its image and writes the result to `out`."""
    image = Image.fromarray(drawn(record, read_image(Path(record["image"]))))
    with whole_file(out) as temporary:
        image.save(temporary)


def drawn(record: dict[str, Any], pixels: np.ndarray) -> np.ndarray:
    """An image, uint8 (h, w, 3), with its record drawn on it; a small image is enlarged."""
    drawing = Drawing(pixels)
    for task in TASKS.entries().values():
        task.draw(record, drawing)
    return drawing.render()


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
    """Writes the detections of `predict`'s records as COCO's results, and returns their number.

    The format: https://cocodataset.org/#format-results.

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
