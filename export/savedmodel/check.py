"""Checks that a SavedModel gives the same results as the model that it was exported from."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from effkeras.data.preprocess import Placement, fill, place
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.boxes import clip, decode, iou
from effkeras.detection.nms import Decoder, Detections
from effkeras.detection.segmentation import decode_mask
from effkeras.inference.artifacts.saved_model import DEFAULT, SavedModel
from effkeras.inference.predictor import Predictor
from effkeras.inference.task import tasks_of
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError

# Both models compute in float32 but may sum in different orders; nearly equal scores may swap ranks.
LARGEST_DIFFERENCE = 1e-3  # of raw outputs, in standard deviations
SMALLEST_SHARE = 0.98  # of detections and of mask pixels that agree
SAME_BOX, SAME_SCORE = 0.99, 1e-3

Outputs = Mapping[str, np.ndarray]


class CheckFailedError(EffkerasError):
    """The SavedModel's results differ from those of the model."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the results of two models agree, summed over images.

    `difference` is the largest difference of raw outputs, in their standard deviations. `same` of `total`
    detections, mask pixels or scores agree. `constant` names the raw outputs that do not vary with the image.
    """

    images: int
    difference: float
    same: int
    total: int
    constant: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of the results that agree, 0..1."""
        return self.same / self.total if self.total else 1.0

    def problem(self, *, trained: bool) -> str:
        """The problem, or "". With random weights all scores may be equal, so the choice of boxes is open."""
        if self.difference > LARGEST_DIFFERENCE or (trained and self.share < SMALLEST_SHARE):
            return f"the results of the SavedModel differ from the model's: {self}"
        if trained and self.constant:
            return f"the output {self.constant[0]} is the same for all images; look at its weights"
        return ""

    def to_row(self) -> dict[str, Any]:
        """The agreement as keys of a row in results.jsonl."""
        return {
            "checked_images": self.images,
            "largest_difference": self.difference,
            "agreeing_share": self.share,
        }

    def __str__(self) -> str:
        answers = f"{self.same:,} of {self.total:,} answers are the model's"
        return f"{self.images} images: {answers}; raw outputs within {self.difference:.0e} std"


def agreement(
    model: Predictor, saved: SavedModel, images: Sequence[np.ndarray], min_score: float = 0.0
) -> Agreement:
    """Runs both models on images; the SavedModel omits detections with a score below `min_score`.

    Raises CheckFailedError when a raw output of the SavedModel is NaN or infinite.
    """
    with closing(track(images, "checking")) as shown:  # closes the progress bar after an error
        trials = [_run_both(model, saved, image, min_score) for image in shown]
    same, total = np.sum([one.counts for one in trials], axis=0)
    difference = max(one.difference for one in trials)
    return Agreement(len(trials), difference, int(same), int(total), _constant([one.raw for one in trials]))


@dataclass(frozen=True, eq=False, slots=True)
class _Trial:
    """One image: the SavedModel's raw outputs, their difference from the model's, and (same, total)."""

    raw: Outputs
    difference: float
    counts: np.ndarray


def _run_both(model: Predictor, saved: SavedModel, image: np.ndarray, min_score: float) -> _Trial:
    placed = place(image, saved.spec.input)
    pixels = fill(placed.content, saved.spec.input)[None]
    raw = saved(pixels)
    for name, values in raw.items():
        if not np.isfinite(values).all():
            raise CheckFailedError(f"the output {name} is not a number; look at its weights")
    expected = _Expected(saved.spec, placed.placement, min_score)
    counts = [expected.agreeing(answers, raw) for answers in _answers(saved, image)]
    return _Trial(raw, _difference(model(pixels), raw), np.sum(counts, axis=0))


def _constant(raw: Sequence[Outputs]) -> tuple[str, ...]:
    first, *others = raw
    varied = {name for name in first for one in others if not np.array_equal(one[name], first[name])}
    return tuple(name for name in first if others and name not in varied)


def _difference(expected: Outputs, got: Outputs) -> float:
    spreads = {name: max(float(values.std()), 1e-12) for name, values in expected.items()}
    return max(float(np.abs(expected[name] - got[name]).max()) / spreads[name] for name in expected)


def _answers(saved: SavedModel, image: np.ndarray) -> Iterator[Outputs]:
    """The SavedModel's results for an image, given as an encoded file and as pixels."""
    for signature, value in (("encoded", [_png(image)]), (DEFAULT, image[None])):
        yield {name: values[0] for name, values in saved.answer(signature, value).items()}


@dataclass(frozen=True, eq=False, slots=True)
class _Expected:
    """The results that effkeras derives from raw outputs, and how many of the SavedModel's agree."""

    spec: ModelSpec
    placement: Placement
    min_score: float

    def agreeing(self, answers: Outputs, raw: Outputs) -> np.ndarray:
        """Numbers of agreeing results and of all results, summed over the model's tasks."""
        heads = {name: values[0] for name, values in raw.items()}
        by_task = {
            "classification": self._scores,
            "detection": self._matched,
            "segmentation": self._pixels,
        }
        return np.sum([by_task[task](heads, answers) for task in tasks_of(self.spec)], axis=0)

    def _scores(self, heads: Outputs, got: Outputs) -> np.ndarray:
        (expected,) = heads.values()
        return np.array([(np.abs(got["all_scores"] - expected) <= SAME_SCORE).sum(), expected.size])

    def _pixels(self, heads: Outputs, got: Outputs) -> np.ndarray:
        mask = decode_mask(heads["mask_logits"], self.placement)
        return np.array([(mask == got["masks"]).sum(), mask.size])

    def _matched(self, heads: Outputs, got: Outputs) -> np.ndarray:
        """Numbers of agreeing detections and of all detections.

        A detection agrees if its score is that of ours at the same rank, and a candidate has its box and at
        least its score for its class. It need not be ours: scores equal up to rounding may swap ranks.
        """
        expected, boxes = self._detections(heads), self._candidates(heads)
        chances = _sigmoid(heads["class_logits"])
        count = int(got["count"])
        same = 0
        for rank in range(min(count, len(expected))):
            score, label = got["scores"][rank], got["classes"][rank]
            likely = _same_boxes(got["boxes"][rank], boxes) & (chances[:, label] >= score - SAME_SCORE)
            same += bool(likely.any() and abs(score - expected.scores[rank]) <= SAME_SCORE)
        return np.array([same, max(count, len(expected))])

    def _detections(self, heads: Outputs) -> Detections:
        found = Decoder.of(self.spec)(heads["class_logits"], heads["box_deltas"]).above(self.min_score)
        return Detections(self.placement.to_image(found.boxes), found.scores, found.classes)

    def _candidates(self, heads: Outputs) -> np.ndarray:
        """All candidate boxes (N, 4) in image pixels."""
        decoder = Decoder.of(self.spec)
        return self.placement.to_image(clip(decode(heads["box_deltas"], decoder.anchors), decoder.size))


def _same_boxes(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which boxes equal `box`: by IoU, or by coordinates, as empty boxes at the image's edge have no IoU."""
    return (iou(box, boxes) >= SAME_BOX) | (np.abs(boxes - box).max(axis=-1) < 0.01)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -logits))


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()
