"""Predictions for images and videos, as plain records and as drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from effkeras.data.images import is_image, read_image
from effkeras.data.preprocess import Placement, fill, place
from effkeras.data.records import RunLengths
from effkeras.data.segmentations import encode_rle, pixels_of
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.nms import Decoder, Detections
from effkeras.detection.segmentation import decode_mask
from effkeras.inference.predictor import Predictor
from effkeras.inference.video import Frame, Video
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from effkeras.support.files import whole_file

# Distinguishable for most kinds of colour vision (Okabe and Ito 2008).
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")
MASK_OPACITY = 0.6
BEST = 5  # classes that a classifier's record names

_Describe = Callable[[Mapping[str, np.ndarray], Placement], dict[str, Any]]


def images_in(path: Path) -> list[Path]:
    """The image itself, or all images in a folder, sorted. EffkerasError when there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise EffkerasError(f"there is no image or folder {path}")
    found = sorted(file for file in path.iterdir() if is_image(file))
    if not found:
        raise EffkerasError(f"the folder {path} holds no images (png, jpg, bmp, webp)")
    return found


def predict(predictor: Predictor, paths: Sequence[Path], min_score: float) -> Iterator[dict[str, Any]]:
    """One record an image, in order.

    A detector's record has `image` and `detections`, each with `label`, `class`, `score` and `box`
    (ymin, xmin, ymax, xmax in image pixels). One that segments has `masks`, for every class but the first
    (the background) that was found, with `label`, `class`, `pixels` and `segmentation` (COCO's run lengths
    in the image's size). A classifier's has the five likeliest `classes`. An image that cannot be read is
    reported and left out, unless it is the only one: then EffkerasError.
    """
    describe = _describe_with(predictor, min_score)
    for path in paths:
        try:
            image = read_image(path)
        except EffkerasError as error:
            if len(paths) == 1:
                raise
            note(f"skipped: {error}")
            continue
        # "picture" is the name of "image" in the version before.
        yield {"image": str(path), "picture": str(path), **describe(image)}


def predict_video(
    predictor: Predictor, video: Video, min_score: float, every: int = 1
) -> Iterator[tuple[Frame, dict[str, Any]]]:
    """Every frame of a video with a record, in order.

    A record is like an image's, with `video`, `frame` (its number, from 0) and `time` (seconds) in place of
    `image`. The predictor runs on every `every`-th frame; the others get the record of the last such frame.
    """
    describe = _describe_with(predictor, min_score)
    record: dict[str, Any] = {}
    for frame in video:
        if frame.number % every == 0:
            where = {"video": str(video.path), "frame": frame.number, "time": round(frame.time, 6)}
            record = {**where, **describe(frame.pixels)}
        yield frame, record


def _describe_with(predictor: Predictor, min_score: float) -> Callable[[np.ndarray], dict[str, Any]]:
    """A function from an image, uint8 (h, w, 3), to its record."""
    describe = _describer(predictor.spec, min_score)

    def run(image: np.ndarray) -> dict[str, Any]:
        placed = place(image, predictor.spec.input)
        outputs = predictor(fill(placed.content, predictor.spec.input)[None])
        one = {name: values[0] for name, values in outputs.items()}
        return describe(one, placed.placement)

    return run


def _describer(spec: ModelSpec, min_score: float) -> _Describe:
    """A function from the outputs for an image, and its placement in the input, to its record."""
    decoder = Decoder.of(spec) if spec.detects else None

    def describe(outputs: Mapping[str, np.ndarray], placement: Placement) -> dict[str, Any]:
        if not spec.is_detector:
            (scores,) = outputs.values()
            return {"classes": _classes(scores, spec)}
        record: dict[str, Any] = {}
        if decoder is not None:
            found = decoder.found(outputs).above(min_score)
            boxes = placement.to_image(found.boxes)
            record["detections"] = _detections(Detections(boxes, found.scores, found.classes), spec)
        if spec.segments:
            record["masks"] = _masks(decode_mask(outputs["mask_logits"], placement), spec)
        return record

    return describe


def draw(record: dict[str, Any], out: Path) -> None:
    """Draws a record of `predict` onto its image and writes that to `out`."""
    image = Image.fromarray(drawn(record, read_image(Path(record["image"]))))
    with whole_file(out) as temporary:
        image.save(temporary)


def drawn(record: dict[str, Any], pixels: np.ndarray) -> np.ndarray:
    """An image, uint8 (h, w, 3), with its record drawn on it; a small one is enlarged."""
    original = Image.fromarray(pixels)
    image = _enlarged(_tinted(original, record.get("masks", [])))
    factor = image.width / original.width
    pen = ImageDraw.Draw(image)
    for found in record.get("detections", []):
        ymin, xmin, ymax, xmax = (value * factor for value in found["box"])
        colour = PALETTE[found["class"] % len(PALETTE)]
        pen.rectangle((xmin, ymin, xmax, ymax), outline=colour, width=2)
        _tag(pen, (xmin, ymin), f"{found['label']} {found['score']:.2f}", colour)
    for line, found in enumerate(record.get("classes", [])[:1]):
        _tag(pen, (4, 16 + 16 * line), f"{found['label']} {found['score']:.2f}", PALETTE[0])
    return np.asarray(image)


def label_of(spec: ModelSpec, index: int) -> str:
    """A class's name, or its number when the definition has no names."""
    if spec.labels:
        return spec.labels[index]
    return str(spec.category_ids[index]) if spec.category_ids else str(index)


def _classes(scores: np.ndarray, spec: ModelSpec) -> list[dict[str, Any]]:
    best = np.argsort(-scores)[:BEST]
    return [{"label": label_of(spec, i), "class": int(i), "score": round(float(scores[i]), 4)} for i in best]


def _masks(labels: np.ndarray, spec: ModelSpec) -> list[dict[str, Any]]:
    names = spec.mask_labels
    return [
        {
            "label": names[value] if names else str(value),
            "class": int(value),
            "pixels": int((labels == value).sum()),
            "segmentation": encode_rle(labels == value),
        }
        for value in np.unique(labels)
        if value > 0
    ]


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
    """Small images are enlarged, so that labels stay readable and do not hide what they name."""
    factor = max(1, round(384 / max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _tinted(image: Image.Image, masks: Sequence[dict[str, Any]]) -> Image.Image:
    """The image with each mask laid over it in the colour that boxes of its class have."""
    pixels = np.asarray(image, np.float32)
    for found in masks:
        size = tuple(found["segmentation"]["size"])
        inside = pixels_of(RunLengths(np.array(found["segmentation"]["counts"])), size)
        colour = ImageColor.getrgb(PALETTE[(found["class"] - 1) % len(PALETTE)])
        tint = np.where(inside, MASK_OPACITY, 0)[..., None]
        pixels = pixels + (np.array(colour) - pixels) * tint
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _tag(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: str) -> None:
    font = ImageFont.load_default(size=12)
    left, top = corner[0], max(0, corner[1] - 14)
    pen.rectangle(pen.textbbox((left + 2, top), text, font=font), fill=colour)
    pen.text((left + 2, top), text, fill="black", font=font)
