"""What an evaluation leaves for the report: curves, the confusion matrix, the best and worst images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.data.images import read_image
from effkeras.inference.contact_sheet import Sheet, Tile, contact_sheet
from effkeras.inference.task import Details, Example
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder, whole_file, write_text

FOLDER, FILE = "evaluation", "evaluation.json"
SHEETS = {"best": "best images", "worst": "worst images"}
_TILES = 8
_POINTS = 100  # of a curve in the file, evenly spread over its scores, and as many over its recall
_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """The split, the number of its images, and the threshold of an evaluation (None without one)."""

    split: str
    images: int
    score: float | None = None


def keep_details(details: Details, measured: Measured, run: Path) -> None:
    """Writes evaluation.json, best.png and worst.png into RUN/evaluation; EffkerasError if it cannot."""
    folder = make_folder(run / FOLDER)
    table = {
        "split": measured.split,
        "images": measured.images,
        "score": measured.score,
        "labels": list(details.labels),
        "confusion": np.round(details.confusion, _DECIMALS).tolist(),
        "curves": {name: _thinned(curve) for name, curve in details.curves.items()},
    }
    write_text(folder / FILE, json.dumps(table) + "\n")
    for name, examples in _chosen(details.examples).items():
        file = folder / f"{name}.png"
        file.unlink(missing_ok=True)
        tiles = [_tile(one) for one in examples]
        if tiles:
            sheet = Sheet(f"The {SHEETS[name]} of {measured.split}", details.labels, dashed="not found")
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
        return {**table, "curves": {name: dict(curve) for name, curve in table["curves"].items()}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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


def _tile(one: Example) -> Tile:
    title = one.path.name
    try:
        pixels = read_image(one.path)
    except EffkerasError as error:
        grey = np.full((120, 160, 3), 200, np.uint8)
        nothing = np.zeros(0, np.int64)
        return Tile(grey, np.zeros((0, 4), np.float32), nothing, nothing.astype(bool), title, str(error))
    return Tile(pixels, one.boxes, one.classes, one.is_missed, title, one.line)
