"""Paired comparison of two models: the drop, and an interval that holds it."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import tiny_model

from effkeras import EffkerasError
from effkeras.compare import Outcomes, compare, outcomes
from effkeras.data.splits import open_data
from effkeras.evaluate import evaluate
from effkeras.predictor import KerasPredictor
from effkeras.zoo import definition_path

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


def test_other_pictures_cannot_be_compared():
    with pytest.raises(EffkerasError, match="the same pictures"):
        compare(top1(RIGHT[0]), top1(RIGHT[1][:100]))


@pytest.mark.parametrize("kind", ["efficientdet", "efficientnet"])
def test_outcomes_have_the_value_that_evaluation_has(kind, digits, digit_classes):
    import effkeras

    model = effkeras.load(definition_path(f"{kind}-digits").parent / "digits.keras")
    data = open_data(digits if kind == "efficientdet" else digit_classes, "test")
    predictor = KerasPredictor.of(model)
    found = outcomes(predictor, data)
    assert found.value == pytest.approx(evaluate(predictor, data)[found.metric], abs=1e-6)


def test_masks_have_no_comparison(digits):
    predictor = KerasPredictor.of(tiny_model("efficientnet-b0"))
    with pytest.raises(EffkerasError, match="finds no boxes"):
        outcomes(predictor, open_data(digits, "test"))
