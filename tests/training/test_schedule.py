"""Warm-up, peak and end of the learning rate."""

from __future__ import annotations

import pytest

from effkeras.training.compiling import schedule_of
from effkeras.training.optimizers import TimedCosine, WarmupCosine
from effkeras.training.run import TrainSettings


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.5), (110, 0.0), (500, 0.0)],
)
def test_rates(step, rate):
    assert float(WarmupCosine(1.0, warmup=10, total=110)(step)) == pytest.approx(rate, abs=1e-6)


def test_no_warmup_starts_at_the_peak():
    assert float(WarmupCosine(0.3, warmup=0, total=10)(0)) == pytest.approx(0.3)


def test_config_round_trip():
    schedule = WarmupCosine(0.2, 3, 9)
    assert WarmupCosine.from_config(schedule.get_config()).get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("step", "share", "rate"),
    [(0, 0.0, 0.25), (3, 0.0, 1.0), (0, 0.2, 0.9045), (9, 0.5, 0.5), (9, 1.0, 0.0)],
)
def test_rates_by_time(step, share, rate):
    schedule = TimedCosine(1.0, warmup=4)
    schedule.set_share(share)
    assert float(schedule(step)) == pytest.approx(rate, abs=1e-4)


def test_a_short_training_by_steps_rises_for_a_tenth():
    """An epoch of a large set is longer than the whole training."""
    assert schedule_of(TrainSettings(steps=100), steps=7000).warmup == 10
    assert schedule_of(TrainSettings(epochs=2), steps=7000).warmup == 7000
