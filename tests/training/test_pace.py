"""When a training validates and ends, by a clock of the test's own."""

from __future__ import annotations

import dataclasses

import pytest

from effkeras.training import pace
from effkeras.training.checkpoint import Progress
from effkeras.training.pace import StepPace, TimedPace, first_interval
from effkeras.training.settings import TrainSettings
from effkeras.training.strategies.session import _AgreedPace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def course(
    made: pace.Pace, clock: Clock, step_seconds: float, validation: float, first: int = 0
) -> list[int]:
    """The steps at which a training validates, until it ends."""
    found, step = [], first
    while not found or not made.is_over(step):
        clock.now += step_seconds
        step += 1
        if made.is_over(step) or made.is_due(step):
            found.append(step)
            clock.now += validation
            made.validated(step, validation)
    return found


def by_steps(
    clock: Clock, settings: TrainSettings, per_epoch: int, progress: Progress | None = None
) -> StepPace:
    made = StepPace(settings, per_epoch, progress or Progress(), 0.0)
    made._clock = clock
    return made


@pytest.mark.parametrize(
    ("settings", "per_epoch", "interval"),
    [
        (TrainSettings(epochs=3), 25, 25),
        (TrainSettings(steps=3000), 25, 100),
        (TrainSettings(steps=20_000), 1500, 1500),
        (TrainSettings(steps=3000), 7000, 300),
        (TrainSettings(steps=5), 3, 1),
    ],
)
def test_intervals(settings, per_epoch, interval):
    assert first_interval(settings, per_epoch) == interval


def test_every_epoch_is_validated_where_they_are_given():
    assert course(by_steps(clock := Clock(), TrainSettings(epochs=4), 3), clock, 0.1, 1.0) == [3, 6, 9, 12]


@pytest.mark.parametrize(("length", "unit"), [({"steps": 3000}, 1), ({"epochs": 120}, 25)])
def test_slow_validations_get_rarer(length, unit):
    clock = Clock()
    found = course(by_steps(clock, TrainSettings(**length), 25), clock, 1.0, 30.0)
    assert len(found) * 30 <= 0.17 * clock.now
    assert found[-1] == 3000
    assert len(found) >= 10
    assert all(step % unit == 0 for step in found)


def test_the_interval_is_that_of_before_after_a_resumption():
    clock = Clock()
    settings = TrainSettings(steps=3000)
    made = by_steps(clock, settings, 25)
    course(made, clock, 1.0, 30.0)
    interval, _ = made.next
    assert interval > 100
    again = Progress(step=1000, interval=interval, validate_at=1100, seconds=5.0)
    assert by_steps(clock, settings, 25, again).next == (interval, 1100)


@pytest.mark.parametrize("step_seconds", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("validation", [0.5, 8.0])
def test_a_training_by_time_ends_with_it(step_seconds, validation):
    clock = Clock()
    made = TimedPace(10.0, Progress(), 0.0, clock)
    found = course(made, clock, step_seconds, validation)
    assert 585 <= clock.now <= 601
    assert 10 <= len(found) <= 21
    assert made.share(found[-1]) == pytest.approx(1, abs=0.01)


def test_what_is_left_is_known_where_time_decides():
    clock = Clock()
    by_time = TimedPace(10.0, Progress(), 0.0, clock)
    clock.now = 15.0
    assert by_time.left() == 585
    assert _AgreedPace(by_time, None).left() == 585  # what many workers agree on
    assert StepPace(TrainSettings(steps=10), 5, Progress(), 0.0).left() is None


def test_the_estimate_of_steps_is_right():
    clock = Clock()
    made = TimedPace(10.0, Progress(), 0.0, clock)
    for clock.now, step in ((15.0, 1), (60.0, 51)):  # the first one traces the model
        found = made.total(step)
    assert found == pytest.approx(51 + 510 / 0.9, abs=1)  # 0.9 s a step, and 30 s for the last validation


def test_a_training_by_time_goes_on_with_what_is_left():
    clock = Clock()
    progress = Progress(step=700, seconds=400.0)
    course(TimedPace(10.0, progress, 0.0, clock), clock, 1.0, 5.0, first=700)
    assert 190 <= clock.now <= 201
    done = dataclasses.replace(progress, seconds=599.0)
    assert TimedPace(10.0, done, 0.0, Clock()).is_over(900)
    assert not TimedPace(20.0, done, 0.0, Clock()).is_over(900)
