"""Predictions for single pictures, as plain records and as drawings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from effkeras.console import note
from effkeras.data.pictures import is_picture, read_picture
from effkeras.definition import ModelSpec
from effkeras.detection.nms import Decoder, Detections
from effkeras.errors import EffkerasError
from effkeras.files import whole_file
from effkeras.predictor import Predictor
from effkeras.preprocess import fill, place

# Distinguishable for most kinds of colour vision (Okabe and Ito 2008).
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")


def pictures_in(path: Path) -> list[Path]:
    """The picture itself, or all pictures in a folder, sorted. EffkerasError when there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise EffkerasError(f"there is no picture or folder {path}")
    found = sorted(file for file in path.iterdir() if is_picture(file))
    if not found:
        raise EffkerasError(f"the folder {path} holds no pictures (png, jpg, bmp, webp)")
    return found


def predict(predictor: Predictor, paths: Sequence[Path], min_score: float) -> Iterator[dict[str, Any]]:
    """One record a picture, in order.

    A detector's record has `picture` and `detections`, each with `label`, `class`, `score` and `box`
    (ymin, xmin, ymax, xmax in picture pixels); a classifier's has the five likeliest `classes`. A picture
    that cannot be read is reported and left out, unless it is the only one: then EffkerasError.
    """
    decoder = Decoder.of(predictor.spec) if predictor.spec.is_detector else None
    for path in paths:
        try:
            picture = read_picture(path)
        except EffkerasError as error:
            if len(paths) == 1:
                raise
            note(f"skipped: {error}")
            continue
        placed = place(picture, predictor.spec.input)
        outputs = predictor(fill(placed.content, predictor.spec.input)[None])
        if decoder is None:
            (scores,) = outputs.values()
            yield {"picture": str(path), "classes": _classes(scores[0], predictor.spec)}
            continue
        found = decoder(outputs["class_logits"][0], outputs["box_deltas"][0]).above(min_score)
        boxes = placed.placement.to_picture(found.boxes)
        found = Detections(boxes, found.scores, found.classes)
        yield {"picture": str(path), "detections": _detections(found, predictor.spec)}


def draw(record: dict[str, Any], out: Path) -> None:
    """Draws a record of `predict` onto its picture and writes that to `out`."""
    picture = Image.fromarray(read_picture(Path(record["picture"])))
    image = _enlarged(picture)
    factor = image.width / picture.width
    pen = ImageDraw.Draw(image)
    for found in record.get("detections", []):
        ymin, xmin, ymax, xmax = (value * factor for value in found["box"])
        colour = PALETTE[found["class"] % len(PALETTE)]
        pen.rectangle((xmin, ymin, xmax, ymax), outline=colour, width=2)
        _tag(pen, (xmin, ymin), f"{found['label']} {found['score']:.2f}", colour)
    for line, found in enumerate(record.get("classes", [])[:1]):
        _tag(pen, (4, 16 + 16 * line), f"{found['label']} {found['score']:.2f}", PALETTE[0])
    with whole_file(out) as temporary:
        image.save(temporary)


def label_of(spec: ModelSpec, index: int) -> str:
    """A class's name, or its number when the definition has no names."""
    if spec.labels:
        return spec.labels[index]
    return str(spec.category_ids[index]) if spec.category_ids else str(index)


def _classes(scores: np.ndarray, spec: ModelSpec) -> list[dict[str, Any]]:
    best = np.argsort(-scores)[:5]
    return [{"label": label_of(spec, i), "class": int(i), "score": round(float(scores[i]), 4)} for i in best]


def _detections(found: Detections, spec: ModelSpec) -> list[dict[str, Any]]:
    return [
        {
            "label": label_of(spec, int(label)),
            "class": int(label),
            "score": round(float(score), 4),
            "box": [round(float(value), 1) for value in box],
        }
        for box, score, label in zip(found.boxes, found.scores, found.classes, strict=True)
    ]


def _enlarged(image: Image.Image) -> Image.Image:
    """Small pictures are enlarged, so that labels stay readable and do not hide what they name."""
    factor = max(1, round(384 / max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _tag(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: str) -> None:
    font = ImageFont.load_default(size=12)
    left, top = corner[0], max(0, corner[1] - 14)
    pen.rectangle(pen.textbbox((left + 2, top), text, font=font), fill=colour)
    pen.text((left + 2, top), text, fill="black", font=font)
