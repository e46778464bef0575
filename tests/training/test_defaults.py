"""The length of a training that states none."""

from __future__ import annotations

import pytest

from effkeras.training.defaults import Facts, completed
from effkeras.training.run import TrainSettings


@pytest.mark.parametrize(
    ("images", "is_detector", "batch", "length", "said"),
    [
        (205, True, 8, (None, 3000), "3,000 steps, 120 passes over the 205 images: a small set"),
        (205, True, 16, (None, 1500), "1,500 steps"),
        (118_000, True, 16, (30, None), "30 epochs of 7,375 steps"),
        (24, False, 16, (None, 1000), "1,000 steps"),
        (2_000, False, 16, (30, None), "30 epochs of 125 steps"),
        (3, True, 8, (None, 3000), "3,000 steps"),
    ],
)
def test_small_sets_get_enough_steps(images, is_detector, batch, length, said):
    settings, line = completed(TrainSettings(batch=batch), Facts(images, is_detector))
    assert (settings.epochs, settings.steps) == length
    assert said in line


@pytest.mark.parametrize("given", [{"epochs": 2}, {"steps": 5}, {"minutes": 1.0}])
def test_a_given_length_stays(given):
    settings = TrainSettings(**given)
    assert completed(settings, Facts(10, True)) == (settings, "")
