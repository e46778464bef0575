"""Compares an artifact with its model: chooses the images, and measures how far the outputs differ."""

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
# The difference of outputs that hardly vary is relative to their size: otherwise rounding would be an error.
_FLOOR = 1e-3
# Smaller outputs are ignored: deep networks with random weights output 1e-23, which is only rounding.
_SILENT = 1e-9
_PIXEL = 0.01

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far one output differs from the model's.

    For head outputs and probabilities, `error` is the root mean square difference as a share of the standard
    deviation of the model's output. For an artifact that contains NMS, the model finds `sure` boxes (score
    0.3 or more), the artifact `found` of them; `error` is the largest difference of their scores.
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
    """Yields one agreement per common output, and one for all detections if the artifact contains NMS.

    Args:
        wanted: the model's outputs, (B, ...) each.
        got: the artifact's outputs for the same images.
        decoder: applies the same NMS as the artifact.
    """
    for name in sorted(wanted.keys() & got.keys()):
        yield Agreement(name, _relative(wanted[name], got[name]))
    if BOXES in got and decoder is not None:
        pairs = [_detections(wanted, got, decoder, image) for image in range(len(got[BOXES]))]
        sure = sum(len(one) for one, _ in pairs)
        differences = [difference for one, other in pairs for difference in _differences(one, other)]
        yield Agreement(BOXES, max(differences, default=0.0), sure, len(differences))


def spread(values: np.ndarray) -> float:
    """The largest difference between images, (B, ...), at one position."""
    return float(np.ptp(values, axis=0).max())


def _relative(wanted: np.ndarray, got: np.ndarray) -> float:
    deviation = max(float(wanted.std(dtype=np.float64)), _FLOOR * float(np.abs(wanted).max()), _SILENT)
    return float(np.sqrt(np.square(wanted - got, dtype=np.float64).mean())) / deviation


def _detections(wanted: Outputs, got: Outputs, decoder: Decoder, image: int) -> tuple[Detections, Detections]:
    model, artifact = ({name: values[image] for name, values in one.items()} for one in (wanted, got))
    return decoder.found(model).above(SURE), decoder.found(artifact)


def _differences(wanted: Detections, got: Detections) -> Iterator[float]:
    """The difference of scores of each box that the artifact finds again in its class."""
    for box, score, label in zip(wanted.boxes, wanted.scores, wanted.classes, strict=True):
        same = got.classes == label
        near = _nearness(box, got.boxes[same]) >= SAME_BOX
        if near.any():
            yield float(np.abs(score - got.scores[same][near]).min())


def _nearness(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The IoU; 1 for equal boxes, even without an area, as boxes outside the image have none."""
    equal = np.abs(boxes - box).max(axis=-1, initial=0) < _PIXEL
    return np.maximum(iou(box, boxes), equal)


IMAGES = 4
_DISCS = 8


def images_of(spec: InputSpec, data: LabelledData | None, count: int = IMAGES) -> np.ndarray:
    """Images of a data set, spread evenly over its classes, as the network takes them; else drawn images.

    Class folders are sorted by class, and a good model may predict the same for all images of one class.
    Images that cannot be read are skipped.

    Returns:
        float32 (count, H, W, 3), integers in 0..255; fewer when the data set has fewer images.

    Raises:
        EffkerasError: no image can be read.
    """
    if data is None:
        return drawn_images(spec.size, count)
    found = list(_readable(spec, data, count))
    if not found:
        raise EffkerasError(f"{data.root}: no image of the split {data.split!r} can be read")
    return np.stack(found)


def drawn_images(size: tuple[int, int], count: int = IMAGES) -> np.ndarray:
    """Fixed synthetic images with gradients, edges and noise: float32 (count, *size, 3) in 0..255."""
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
            continue  # evaluation on this data reports it
        count -= 1
        yield network_input(image, spec)
