"""The pictures that a finished artifact is looked at with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from effkeras.data.pictures import read_picture
from effkeras.data.preprocess import network_input
from effkeras.data.records import LabelledData
from effkeras.definitions.definition import InputSpec
from effkeras.support.errors import EffkerasError
from quantize.post_training.calibration import representative

PICTURES = 4
_DISCS = 8


def pictures_of(spec: InputSpec, data: LabelledData | None, count: int = PICTURES) -> np.ndarray:
    """Pictures that show a data set's classes evenly, as the network takes them; without data, drawn ones.

    Class folders come sorted by class, and a good model may say the same of pictures of one class. Those that
    cannot be read are passed over.

    Returns:
        float32 (count, H, W, 3), whole numbers in 0..255; fewer when the data set has fewer.

    Raises:
        EffkerasError: none can be read.
    """
    if data is None:
        return drawn_pictures(spec.size, count)
    found = list(_readable(spec, data, count))
    if not found:
        raise EffkerasError(f"{data.root}: no picture of the split {data.split!r} can be read")
    return np.stack(found)


def drawn_pictures(size: tuple[int, int], count: int = PICTURES) -> np.ndarray:
    """Pictures with slopes, edges and texture, always the same: float32 (count, *size, 3) in 0..255."""
    rows, columns = np.meshgrid(*(np.linspace(0, 1, side) for side in size), indexing="ij")
    return np.stack([_drawn(rows, columns, seed) for seed in range(count)])


def _drawn(rows: np.ndarray, columns: np.ndarray, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    down, across = random.uniform(0, 127, (2, 3))
    picture = rows[..., None] * down + columns[..., None] * across
    for _ in range(_DISCS):
        y, x, radius = random.uniform(0, (1, 1, 0.3))
        picture[np.hypot(rows - y, columns - x) < radius] = random.uniform(0, 255, 3)
    return np.rint(np.clip(picture + random.normal(0, 8, picture.shape), 0, 255)).astype(np.float32)


def _readable(spec: InputSpec, data: LabelledData, count: int) -> Iterator[np.ndarray]:
    for record in representative(data, len(data.records)) if data.records else ():
        if not count:
            return
        try:
            picture = read_picture(record.path)
        except EffkerasError:
            continue  # whoever measures on this data reports it
        count -= 1
        yield network_input(picture, spec)
