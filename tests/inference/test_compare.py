"""Paired comparison of two models: the drop, and an interval that holds it."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny import digits_folder, tiny_classifier, tiny_detector

from effkeras import EffkerasError
from effkeras.building.models import build_spec
from effkeras.data.splits import open_data
from effkeras.definitions.changes import with_heads
from effkeras.definitions.zoo import definition_path
from effkeras.inference.compare import Measured, compare, measure
from effkeras.inference.evaluate import evaluate
from effkeras.inference.predictor import KerasPredictor
from effkeras.inference.task import Outcomes

RIGHT = np.random.default_rng(0).uniform(size=(2, 400)) < [[0.9], [0.8]]


def top1(right: np.ndarray) -> Outcomes:
    return Outcomes("top1", len(right), lambda weights: float(right @ weights / weights.sum()))


def test_the_interval_is_that_of_the_paired_differences():
    found = compare(top1(RIGHT[0]), top1(RIGHT[1]))
    differences = RIGHT[0].astype(float) - RIGHT[1]
    error = differences.std() / np.sqrt(len(differences))
    assert found.drop == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.01)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.01)


def test_a_model_loses_nothing_against_itself():
    found = compare(top1(RIGHT[0]), top1(RIGHT[0]))
    assert (found.drop, found.low, found.high) == (0, 0, 0)


def test_the_same_seed_gives_the_same_interval():
    assert compare(top1(RIGHT[0]), top1(RIGHT[1]), seed=3) == compare(top1(RIGHT[0]), top1(RIGHT[1]), seed=3)


def test_other_images_cannot_be_compared():
    with pytest.raises(EffkerasError, match="on the same images"):
        compare(top1(RIGHT[0]), top1(RIGHT[1][:100]))


@pytest.mark.parametrize("kind", [pytest.param("efficientdet", marks=pytest.mark.slow), "efficientnet"])
def test_outcomes_have_the_value_that_evaluation_has(kind, digits, digit_classes, tmp_path):
    import effkeras

    model = effkeras.load(definition_path(f"{kind}-digits").parent / "digits.keras")
    data = open_data(digits if kind == "efficientdet" else digit_classes, "test")
    predictor = KerasPredictor.of(model)
    found = measure(predictor, data)
    assert found.metrics == evaluate(predictor, data)
    assert found.outcomes.value == pytest.approx(found.metrics[found.outcomes.metric], abs=1e-6)
    found.save(tmp_path / "measured.npz")
    again = Measured.load(tmp_path / "measured.npz")
    assert again.metrics == found.metrics
    assert compare(again.outcomes, found.outcomes) == compare(found.outcomes, found.outcomes)


def test_the_first_images_are_measured(digit_classes):
    found = measure(
        KerasPredictor.of(build_spec(tiny_classifier())), open_data(digit_classes, "test"), limit=5
    )
    assert found.outcomes.images == 5
    assert found.outcomes.value == pytest.approx(found.metrics["top1"])


def test_masks_have_no_outcomes(tmp_path):
    root = digits_folder(tmp_path / "masks", size=64, test=2, masks="rle")
    data = open_data(root, "test", masks=True)
    found = measure(KerasPredictor.of(build_spec(with_heads(tiny_detector(), ["segment"]))), data)
    assert found.outcomes is None
    found.save(tmp_path / "measured.npz")
    again = Measured.load(tmp_path / "measured.npz")
    assert (again.metrics, again.outcomes) == (found.metrics, None)
