"""Compares an artifact with its model: on which images, and how far the outputs are apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from effkeras.data.images import read_image
from effkeras.data.preprocess import network_input
from effkeras.data.records import LabelledData
from effkeras.definitions.definition import InputSpec
from effkeras.detection.boxes import iou
from effkeras.detection.nms import BOXES, Decoder, Detections
from effkeras.support.errors import EffkerasError
from quantize.post_training.calibration import representative

SURE = 0.3
SAME_BOX = 0.5
# A spread below this share of the values themselves is rounding, not a signal.
ROUNDING = 1e-5
# Outputs that hardly vary are compared by their size instead, or rounding would count as an error.
_FLOOR = 1e-3
# What is smaller says nothing: deep networks with random weights put out 1e-23, which is rounding throughout.
_SILENT = 1e-9
_PIXEL = 0.01

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far one output is from the model's.

    Of heads and probabilities `error` is the root mean square difference, as a share of the standard
    deviation of the model's output. Of an artifact with NMS inside it is the largest difference of scores
    among `found` boxes, of the `sure` ones (score 0.3 and more) that the model finds.
    """

    output: str
    error: float
    sure: int = 0
    found: int = 0

    def __str__(self) -> str:
        if self.output != BOXES:
            return f"{self.output}: {self.error:.2%} of its spread"
        if not self.sure:
            return f"no box with a score of {SURE} to compare"
        return f"{self.found} of {self.sure} sure boxes found again, scores within {self.error:.4f}"


def agreements(wanted: Outputs, got: Outputs, decoder: Decoder | None) -> Iterator[Agreement]:
    """One for each output that both have; one for all detections where the artifact suppresses boxes itself.

    Args:
        wanted: the model's outputs, (B, ...) each.
        got: the artifact's, for the same images.
        decoder: suppresses boxes as the artifact does.
    """
    for name in sorted(wanted.keys() & got.keys()):
        yield Agreement(name, _relative(wanted[name], got[name]))
    if BOXES in got and decoder is not None:
        pairs = [_detections(wanted, got, decoder, image) for image in range(len(got[BOXES]))]
        sure = sum(len(one) for one, _ in pairs)
        differences = [difference for one, other in pairs for difference in _differences(one, other)]
        yield Agreement(BOXES, max(differences, default=0.0), sure, len(differences))


def spread(values: np.ndarray) -> float:
    """How much images (B, ...) differ at most in one place."""
    return float(np.ptp(values, axis=0).max())


def _relative(wanted: np.ndarray, got: np.ndarray) -> float:
    deviation = max(float(wanted.std(dtype=np.float64)), _FLOOR * float(np.abs(wanted).max()), _SILENT)
    return float(np.sqrt(np.square(wanted - got, dtype=np.float64).mean())) / deviation


def _detections(wanted: Outputs, got: Outputs, decoder: Decoder, image: int) -> tuple[Detections, Detections]:
    model, artifact = ({name: values[image] for name, values in one.items()} for one in (wanted, got))
    return decoder.found(model).above(SURE), decoder.found(artifact)


def _differences(wanted: Detections, got: Detections) -> Iterator[float]:
    """The difference of scores for each box that is there again, in its class."""
    for box, score, label in zip(wanted.boxes, wanted.scores, wanted.classes, strict=True):
        same = got.classes == label
        near = _nearness(box, got.boxes[same]) >= SAME_BOX
        if near.any():
            yield float(np.abs(score - got.scores[same][near]).min())


def _nearness(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU; 1 for equal boxes without an area, as those that lie outside of the image are."""
    equal = np.abs(boxes - box).max(axis=-1, initial=0) < _PIXEL
    return np.maximum(iou(box, boxes), equal)


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
