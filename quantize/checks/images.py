"""The images that a finished artifact is looked at with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from effkeras.data.images import read_image
from effkeras.data.preprocess import network_input
from effkeras.data.records import LabelledData
from effkeras.definitions.definition import InputSpec
from effkeras.support.errors import EffkerasError
from quantize.post_training.calibration import representative

IMAGES = 4
_DISCS = 8


def images_of(spec: InputSpec, data: LabelledData | None, count: int = IMAGES) -> np.ndarray:
    """Images that show a data set's classes evenly, as the network takes them; without data, drawn ones.

    Class folders come sorted by class, and a good model may say the same of images of one class. Those that
    cannot be read are passed over.

    Returns:
        float32 (count, H, W, 3), whole numbers in 0..255; fewer when the data set has fewer.

    Raises:
        EffkerasError: none can be read.
    """
    if data is None:
        return drawn_images(spec.size, count)
    found = list(_readable(spec, data, count))
    if not found:
        raise EffkerasError(f"{data.root}: no image of the split {data.split!r} can be read")
    return np.stack(found)


def drawn_images(size: tuple[int, int], count: int = IMAGES) -> np.ndarray:
    """Images with slopes, edges and texture, always the same: float32 (count, *size, 3) in 0..255."""
    rows, columns = np.meshgrid(*(np.linspace(0, 1, side) for side in size), indexing="ij")
    return np.stack([_drawn(rows, columns, seed) for seed in range(count)])


def _drawn(rows: np.ndarray, columns: np.ndarray, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    down, across = random.uniform(0, 127, (2, 3))
    image = rows[..., None] * down + columns[..., None] * across
    for _ in range(_DISCS):
        y, x, radius = random.uniform(0, (1, 1, 0.3))
        image[np.hypot(rows - y, columns - x) < radius] = random.uniform(0, 255, 3)
    return np.rint(np.clip(image + random.normal(0, 8, image.shape), 0, 255)).astype(np.float32)


def _readable(spec: InputSpec, data: LabelledData, count: int) -> Iterator[np.ndarray]:
    for record in representative(data, len(data.records)) if data.records else ():
        if not count:
            return
        try:
            image = read_image(record.path)
        except EffkerasError:
            continue  # whoever measures on this data reports it
        count -= 1
        yield network_input(image, spec)
