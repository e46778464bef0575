"""The check after writing refuses what a user would: no numbers, always the same, or other answers."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image
from support.tiny import tiny_classifier, tiny_detector

from effkeras.definitions.definition import ModelSpec
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.nms import Decoder
from export.savedmodel.check import CheckFailedError, agreement
from export.savedmodel.exporting import SavedModelOptions, check_images

DETECTOR, CLASSIFIER = tiny_detector(), tiny_classifier()


@dataclass(frozen=True)
class Fake:
    """Stands for a SavedModel whose answers depend on the image, which has the network's size.

    `spoil` changes raw outputs; `shift` moves the boxes of its answers, of which only `kept` are given;
    `noise` spoils the answers for files, not those for pixels.
    """

    spec: ModelSpec
    spoil: Callable[[np.ndarray], np.ndarray] = np.asarray
    shift: float = 0.0
    kept: int = 100
    noise: float = 0.0

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        random = np.random.default_rng(int(pixels.sum()))
        if not self.spec.is_detector:
            return {"probabilities": self.spoil(random.uniform(0, 1, (1, self.spec.classes)))}
        count = len(anchor_boxes(self.spec))
        logits = random.normal(-2, 2, (1, count, self.spec.classes)).astype(np.float32)
        deltas = random.normal(0, 0.2, (1, count, 4)).astype(np.float32)
        return {"class_logits": self.spoil(logits), "box_deltas": deltas}

    def answer(self, signature: str, value: list[bytes] | np.ndarray) -> dict[str, np.ndarray]:
        encoded = signature == "encoded"
        heads = self(np.asarray(Image.open(io.BytesIO(value[0])))[None] if encoded else value)
        if not self.spec.is_detector:
            return {"all_scores": heads["probabilities"] + self.noise * encoded}
        found = Decoder.of(self.spec)(heads["class_logits"][0], heads["box_deltas"][0])
        answers = {"boxes": found.boxes + self.shift, "scores": found.scores, "classes": found.classes}
        counts = {"count": np.array([min(self.kept, len(found))])}
        return {**{name: values[None, : self.kept] for name, values in answers.items()}, **counts}


def shown(spec: ModelSpec) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 256, (*spec.input.size, 3), np.uint8) for i in range(3)]


def checked(saved: Fake, model: Fake):
    spec = (
        saved.spec
        if saved.spec.is_detector
        else replace(saved.spec, input=replace(saved.spec.input, crop=1.0))
    )
    saved, model = replace(saved, spec=spec), replace(model, spec=spec)
    return agreement(model, saved, shown(spec))


@pytest.mark.parametrize("spec", [DETECTOR, CLASSIFIER], ids=["detector", "classifier"])
def test_equal_answers_agree(spec):
    found = checked(Fake(spec), Fake(spec))
    assert (found.images, found.difference, found.share, found.constant) == (3, 0, 1, ())
    assert found.problem(trained=True) == ""
    assert found.total >= 30


@pytest.mark.parametrize(
    "saved",
    [
        Fake(CLASSIFIER, spoil=lambda scores: scores + 0.01),
        Fake(CLASSIFIER, noise=0.01),
        Fake(DETECTOR, shift=3.0),
        Fake(DETECTOR, kept=90),
        Fake(DETECTOR, kept=0),
    ],
    ids=["other scores", "other scores for files", "other boxes", "fewer boxes", "no boxes"],
)
def test_other_answers_are_refused(saved):
    assert "differ from the model's" in checked(saved, Fake(saved.spec)).problem(trained=True)


@pytest.mark.parametrize(
    ("saved", "name"),
    [
        (Fake(CLASSIFIER, spoil=lambda scores: scores * np.nan), "probabilities"),
        (Fake(DETECTOR, spoil=lambda logits: logits * np.inf), "class_logits"),
    ],
)
def test_what_is_no_number_is_refused(saved, name):
    with pytest.raises(CheckFailedError, match=f"{name} is not a number"):
        checked(saved, Fake(saved.spec))


def test_outputs_that_never_change_are_refused_of_a_trained_model():
    dead = Fake(DETECTOR, spoil=np.zeros_like)
    assert "class_logits is the same for all images" in checked(dead, dead).problem(trained=True)
    assert checked(dead, dead).problem(trained=False) == ""


def test_scores_that_are_nearly_equal_may_change_places():
    """As with random weights, where rounding decides which of many equal candidates comes first."""
    random = np.random.default_rng(0)

    def nearly_equal(logits: np.ndarray) -> np.ndarray:
        rounding = random.integers(-1, 2, logits.shape) * 2**-21  # another one in each call
        return (np.round(logits * 1e-3, 4) - 4.6 + rounding).astype(np.float32)

    found = checked(Fake(DETECTOR, spoil=nearly_equal), Fake(DETECTOR, spoil=nearly_equal))
    assert found.share == 1
    assert found.total >= 600


def test_made_up_images_differ_in_shape_and_content():
    images = check_images(DETECTOR, SavedModelOptions())
    assert len({image.shape for image in images}) == len(images)
    assert all(image.std() > 20 for image in images)


def test_labelled_images_are_used_when_there_are_some(digits):
    images = check_images(DETECTOR, SavedModelOptions(data=digits, split="val"))
    assert [image.shape for image in images] == [(64, 64, 3)] * 4
