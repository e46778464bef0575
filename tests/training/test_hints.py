"""What a training says at its end, or where it fails."""

from __future__ import annotations

import math

import pytest

from effkeras.support.errors import EffkerasError
from effkeras.training.hints import check_loss, rising, unseen
from effkeras.training.settings import TrainSettings


def test_a_nan_names_the_step_and_what_to_try():
    settings = TrainSettings(learning_rate=1e-3, mixed_precision="float16")
    check_loss(math.inf, 3, settings)
    with pytest.raises(EffkerasError, match=r"NaN at step 1,234; try --learning-rate 0.0002 or .*float32"):
        check_loss(math.nan, 1234, settings)
    with pytest.raises(EffkerasError, match=r"try --learning-rate 0.0002, with another --out"):
        check_loss(math.nan, 1, TrainSettings())


@pytest.mark.parametrize(("highest", "is_said"), [(None, False), (0.31, False), (0.21, True)])
def test_a_detector_that_finds_nothing(highest, is_said):
    lines = list(unseen(highest))
    assert bool(lines) == is_said
    assert all("above 0.3 (the highest is 0.21)" in line for line in lines)


@pytest.mark.parametrize(
    ("values", "is_said"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.52, 0.54, 0.56, 0.58], True),
        ([0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.52, 0.575, 0.57, 0.58], False),
        ([0.5, 0.6, 0.4, 0.4, 0.45, 0.5, 0.52, 0.54, 0.56, 0.58], False),
        ([0.5], False),
        ([], False),
    ],
)
def test_a_metric_that_still_rises(values, is_said):
    course = [(100 * number, value) for number, value in enumerate(values, start=1)]
    lines = list(rising("AP", course, TrainSettings(steps=1000)))
    assert bool(lines) == is_said
    assert all("(0.540 -> 0.580)" in line and "--steps 2000 goes on" in line for line in lines)
