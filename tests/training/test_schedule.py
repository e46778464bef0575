"""Warm-up, peak and end of the learning rate."""

from __future__ import annotations

import pytest

from effkeras.training.compiling import schedule_of
from effkeras.training.optimizers import TimedCosine, WarmupCosine
from effkeras.training.settings import TrainSettings


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


def papers_rate(step: int, total: int, warmup: int, peak: float = 0.256) -> float:
    """Plain Python: 0.97 as many times as the authors' staircase says, 2.4 epochs a stair."""
    epoch = 350 * step / total
    return peak * (step + 1) / warmup if step < warmup else peak * 0.97 ** int(epoch / 2.4 + 1e-9)


def test_exponential_is_the_staircase_of_the_paper():
    """24 steps an epoch; at the stairs themselves float32 may be a step late."""
    settings = TrainSettings(
        epochs=350, learning_rate=0.256, schedule="exponential", decays=350 / 2.4, warmup_epochs=5
    )
    schedule = schedule_of(settings, 24)
    for step in [0, 1, 119, 120, 121, *range(150, 8400, 577), 8399]:
        assert float(schedule(step)) == pytest.approx(papers_rate(step, 8400, 120), rel=1e-5), step


@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 100}, {"minutes": 1.0}])
def test_constant_stays_at_the_peak(length):
    schedule = schedule_of(
        TrainSettings(**length, schedule="constant", learning_rate=0.5, warmup_epochs=0), 50
    )
    for step, share in ((0, 0.0), (50, 0.5), (100, 1.0)):
        if isinstance(schedule, TimedCosine):
            schedule.set_share(share)
        assert float(schedule(step)) == 0.5


@pytest.mark.parametrize(
    ("step", "share", "rate"),
    [(0, 0.0, 0.25), (3, 0.0, 1.0), (9, 0.26, 0.25), (9, 0.49, 0.25), (9, 0.51, 0.0625), (9, 1.0, 0.5**8)],
)
def test_exponential_by_time(step, share, rate):
    schedule = schedule_of(
        TrainSettings(minutes=1.0, schedule="exponential", learning_rate=1.0, decay_factor=0.25, decays=4), 4
    )
    schedule.set_share(share)
    assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)
    copy = type(schedule).from_config(schedule.get_config())
    assert copy.get_config() == schedule.get_config()
