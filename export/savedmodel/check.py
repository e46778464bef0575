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
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError

# Both sides compute in float32 and may add in another order; equal scores may then change places.
LARGEST_DIFFERENCE = 1e-3  # of raw outputs, in standard deviations
SMALLEST_SHARE = 0.98  # of detections and of mask pixels that agree
SAME_BOX, SAME_SCORE = 0.99, 1e-3

Outputs = Mapping[str, np.ndarray]


class CheckFailedError(EffkerasError):
    """The SavedModel gives other results than the model."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the results of two models agree, summed over images.

    `difference` is the largest one of raw outputs, in standard deviations of them; `same` of `total` counts
    detections, mask pixels or scores that agree. `constant` names the raw outputs that are the same for all
    images.
    """

    images: int
    difference: float
    same: int
    total: int
    constant: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The part of the answers that agrees, 0..1."""
        return self.same / self.total if self.total else 1.0

    def problem(self, *, trained: bool) -> str:
        """What is wrong, or "". With random weights scores may be all alike, and then any box is as good."""
        if self.difference > LARGEST_DIFFERENCE or (trained and self.share < SMALLEST_SHARE):
            return f"the SavedModel answers otherwise than the model: {self}"
        if trained and self.constant:
            return f"the output {self.constant[0]} is the same for all images; look at its weights"
        return ""

    def to_row(self) -> dict[str, Any]:
        """For results.jsonl."""
        return {
            "checked_images": self.images,
            "largest_difference": self.difference,
            "agreeing_share": self.share,
        }

    def __str__(self) -> str:
        answers = f"{self.same:,} of {self.total:,} answers are the model's"
        return f"{self.images} images: {answers}; raw outputs within {self.difference:.0e} std"


def agreement(
    model: Predictor, saved: SavedModel, images: Sequence[np.ndarray], least: float = 0.0
) -> Agreement:
    """Runs both on images; `least` is the score below which the SavedModel leaves detections out.

    Raises CheckFailedError when the SavedModel gives no numbers.
    """
    with closing(track(images, "checking")) as shown:  # or the bar outlives an error
        trials = [_tried(model, saved, image, least) for image in shown]
    same, total = np.sum([one.counts for one in trials], axis=0)
    difference = max(one.difference for one in trials)
    return Agreement(len(trials), difference, int(same), int(total), _constant([one.raw for one in trials]))


@dataclass(frozen=True, eq=False, slots=True)
class _Trial:
    """One image: what the SavedModel's network says, how far the model is from it, and what agrees."""

    raw: Outputs
    difference: float
    counts: np.ndarray


def _tried(model: Predictor, saved: SavedModel, image: np.ndarray, least: float) -> _Trial:
    placed = place(image, saved.spec.input)
    pixels = fill(placed.content, saved.spec.input)[None]
    raw = saved(pixels)
    for name, values in raw.items():
        if not np.isfinite(values).all():
            raise CheckFailedError(f"the output {name} is not a number; look at its weights")
    wanted = _Wanted(saved.spec, placed.placement, least)
    counts = [wanted.agreeing(answers, raw) for answers in _answers(saved, image)]
    return _Trial(raw, _difference(model(pixels), raw), np.sum(counts, axis=0))


def _constant(raw: Sequence[Outputs]) -> tuple[str, ...]:
    first, *others = raw
    varied = {name for name in first for one in others if not np.array_equal(one[name], first[name])}
    return tuple(name for name in first if others and name not in varied)


def _difference(wanted: Outputs, got: Outputs) -> float:
    spreads = {name: max(float(values.std()), 1e-12) for name, values in wanted.items()}
    return max(float(np.abs(wanted[name] - got[name]).max()) / spreads[name] for name in wanted)


def _answers(saved: SavedModel, image: np.ndarray) -> Iterator[Outputs]:
    """The answers for an image: as a file, and as pixels."""
    for signature, value in (("encoded", [_png(image)]), (DEFAULT, image[None])):
        yield {name: values[0] for name, values in saved.answer(signature, value).items()}


@dataclass(frozen=True, eq=False, slots=True)
class _Wanted:
    """Our own reading of raw outputs, and how many answers agree with it out of how many."""

    spec: ModelSpec
    placement: Placement
    least: float

    def agreeing(self, answers: Outputs, raw: Outputs) -> np.ndarray:
        heads = {name: values[0] for name, values in raw.items()}
        if not self.spec.is_detector:
            return _close(answers["all_scores"], *heads.values())
        counts = np.zeros(2, np.int64)
        if self.spec.detects:
            counts += self._matched(heads, answers)
        if self.spec.segments:
            mask = decode_mask(heads["mask_logits"], self.placement)
            counts += [(mask == answers["masks"]).sum(), mask.size]
        return counts

    def _matched(self, heads: Outputs, got: Outputs) -> np.ndarray:
        """Detections that have the score of ours at their rank, and a candidate's box, class and chances.

        They need not be ours: scores that are equal but for rounding may change places.
        """
        wanted, boxes = self._detections(heads), self._candidates(heads)
        chances = _sigmoid(heads["class_logits"])
        count = int(got["count"])
        same = 0
        for rank in range(min(count, len(wanted))):
            score, label = got["scores"][rank], got["classes"][rank]
            likely = _same_boxes(got["boxes"][rank], boxes) & (chances[:, label] >= score - SAME_SCORE)
            same += bool(likely.any() and abs(score - wanted.scores[rank]) <= SAME_SCORE)
        return np.array([same, max(count, len(wanted))])

    def _detections(self, heads: Outputs) -> Detections:
        found = Decoder.of(self.spec)(heads["class_logits"], heads["box_deltas"]).above(self.least)
        return Detections(self.placement.to_image(found.boxes), found.scores, found.classes)

    def _candidates(self, heads: Outputs) -> np.ndarray:
        """All boxes (N, 4) that there are to choose from, in image pixels."""
        decoder = Decoder.of(self.spec)
        return self.placement.to_image(clip(decode(heads["box_deltas"], decoder.anchors), decoder.size))


def _same_boxes(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Empty boxes at the edge have no IoU; equal ones are the same all the same."""
    return (iou(box, boxes) >= SAME_BOX) | (np.abs(boxes - box).max(axis=-1) < 0.01)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -logits))


def _close(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.array([(np.abs(scores - wanted) <= SAME_SCORE).sum(), wanted.size])


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()
