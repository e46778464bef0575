"""What an evaluation leaves for the report: curves, confusions, kinds of errors, and images to look at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.data.images import read_image
from effkeras.detection.confusion import KINDS, NOTHING, ErrorKind
from effkeras.inference.contact_sheet import Sheet, Tile, contact_sheet
from effkeras.inference.task import Closeup, Details, Example
from effkeras.support.drawing import shortened
from effkeras.support.errors import OF_DAMAGE, EffkerasError
from effkeras.support.files import make_folder, whole_file, write_text

FOLDER, FILE = "evaluation", "evaluation.json"
UNLABELLED = "unlabelled"
SHEETS = {
    "best": "Best images",
    "worst": "Worst images",
    UNLABELLED: "Surest boxes where nothing is labelled",
}
_TILES = 8
_CLOSEUP = 100  # pixels
_POINTS = 100  # of a curve in the file, evenly spread over its scores, and as many over its recall
_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """The split, the number of its images, and the threshold of an evaluation (None without one)."""

    split: str
    images: int
    score: float | None = None


def keep_details(details: Details, measured: Measured, run: Path) -> None:
    """Writes evaluation.json and the images of `SHEETS` into RUN/evaluation; EffkerasError if it cannot."""
    folder = make_folder(run / FOLDER)
    table = {
        "split": measured.split,
        "images": measured.images,
        "score": measured.score,
        "labels": list(details.labels),
        "confusion": np.round(details.confusion, _DECIMALS).tolist(),
        "curves": {name: _thinned(curve) for name, curve in details.curves.items()},
        "errors": [asdict(one) for one in details.errors],
    }
    write_text(folder / FILE, json.dumps(table) + "\n")
    for name, examples in _chosen(details.examples).items():
        sheet = Sheet(f"{SHEETS[name]}: {measured.split}", details.labels, dashed="not found")
        _write_sheet(folder / f"{name}.png", [_tile(one) for one in examples], sheet)
    title = f"{SHEETS[UNLABELLED]}: {measured.split}"
    sheet = Sheet(title, details.labels, columns=8, dashed="labelled")
    _write_sheet(folder / f"{UNLABELLED}.png", _closeups(details), sheet)


def missing_labels(details: Details, run: Path) -> Iterator[str]:
    """A line where more than half of the wrong boxes are where nothing is labelled, and what to look at."""
    wrong = sum(one.count for one in details.errors)
    unlabelled = sum(one.count for one in details.errors if one.name == KINDS[NOTHING])
    if 2 * unlabelled > wrong:
        yield f"{unlabelled:,} of {wrong:,} wrong boxes are where nothing is labelled. Are labels missing?"
        yield f"look at {run / FOLDER / UNLABELLED}.png"


def _write_sheet(file: Path, tiles: Sequence[Tile], sheet: Sheet) -> None:
    file.unlink(missing_ok=True)
    if tiles:
        with whole_file(file) as aside:
            contact_sheet(tiles, sheet).save(aside)


def read_details(run: Path) -> dict[str, Any] | None:
    """The content of evaluation.json; None without one. Raises EffkerasError if it is damaged."""
    file = run / FOLDER / FILE
    if not file.is_file():
        return None
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        np.array(table["confusion"], float).reshape(len(table["labels"]), len(table["labels"]))
        curves = {name: dict(curve) for name, curve in table["curves"].items()}
        errors = [
            ErrorKind(str(one["name"]), int(one["count"]), float(one["ap50_without"]))
            for one in table.get("errors", ())  # files of the previous version have none
        ]
        return {**table, "curves": curves, "errors": errors}
    except OF_DAMAGE as error:
        raise EffkerasError(f"{file} is damaged; `effkeras eval {run} --data DIR` writes it anew") from error


def _thinned(curve: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """The curve at so many places that it looks the same, the last of them among these."""
    count = len(next(iter(curve.values()), ()))
    evenly = np.linspace(0, max(count - 1, 0), min(count, _POINTS)).astype(int)
    by_recall = np.searchsorted(curve["recall"], np.linspace(0, 1, _POINTS)) if count else evenly
    places = np.unique([*evenly, *by_recall[by_recall < count]]).astype(int)
    return {
        name: np.round(values[places].astype(float), _DECIMALS).tolist() for name, values in curve.items()
    }


def _chosen(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """The images with the highest score and most boxes, and the faulty ones with the lowest."""
    order = sorted(examples, key=lambda one: (one.score, len(one.boxes) if one.score else -len(one.boxes)))
    each = min(_TILES, len(order) // 2)
    return {"best": order[::-1][:each], "worst": [one for one in order[:each] if one.score < 1]}


def _closeups(details: Details) -> list[Tile]:
    """The detections with what is around them; without those whose image cannot be read again."""
    tiles = []
    for one in details.unlabelled:
        try:
            pixels = read_image(one.path)
        except EffkerasError:
            continue
        title = f"{shortened(details.labels[one.label], 12)} {one.score:.2f}"
        tiles.append(_closeup(pixels, one, title))
    return tiles


def _closeup(pixels: np.ndarray, one: Closeup, title: str) -> Tile:
    """A square around the detection, at least `_CLOSEUP` pixels wide and never beyond the image."""
    ymin, xmin, ymax, xmax = one.box.tolist()
    side = min(max(2 * (ymax - ymin), 2 * (xmax - xmin), _CLOSEUP), *pixels.shape[:2])
    top, left = (
        int(np.clip((low + high - side) / 2, 0, size - side))
        for low, high, size in ((ymin, ymax, pixels.shape[0]), (xmin, xmax, pixels.shape[1]))
    )
    cut = pixels[top : top + int(side), left : left + int(side)]
    boxes = np.concatenate([one.box[None], one.labelled]) - np.array([top, left, top, left], np.float32)
    near = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < side).all(axis=1)
    is_label = np.arange(len(boxes)) > 0
    return Tile(cut, boxes[near], np.full(int(near.sum()), one.label), is_label[near], title, one.path.name)


def _tile(one: Example) -> Tile:
    title = one.path.name
    try:
        pixels = read_image(one.path)
    except EffkerasError as error:
        grey = np.full((120, 160, 3), 200, np.uint8)
        nothing = np.zeros(0, np.int64)
        return Tile(grey, np.zeros((0, 4), np.float32), nothing, nothing.astype(bool), title, str(error))
    return Tile(pixels, one.boxes, one.classes, one.is_missed, title, one.line)
