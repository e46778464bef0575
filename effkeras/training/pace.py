"""When a training validates and when it ends: by steps, or by the time that it may take."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from effkeras.training.checkpoint import Progress
from effkeras.training.settings import TrainSettings

# Validation takes at most this share of the time ...
VALIDATION_SHARE = 0.15
# ... which is only looked at once it has taken this long, so that short trainings are the same every time.
PATIENCE_SECONDS = 30.0
# Validations of a training by steps, at least and at most; by time there are TIMED.
LEAST, MOST = 10, 30
TIMED = 20
# What follows the last step, in validations: the last one, and the files.
ENDING = 1.3

Clock = Callable[[], float]


class Pace(ABC):
    """When a training validates and when it ends.

    It measures the time since this process has `begun`; a resumed training adds the time used before.
    """

    def __init__(self, progress: Progress, begun: float, clock: Clock = time.monotonic):
        self._clock = clock
        self._start = begun - progress.seconds

    def used(self) -> float:
        """The seconds that the training has taken, earlier parts included."""
        return self._clock() - self._start

    @abstractmethod
    def left(self) -> float | None:
        """The seconds until the end, where time decides it; else None."""

    @abstractmethod
    def share(self, step: int) -> float:
        """The share of the training, 0 to 1, that is over after `step` steps."""

    @abstractmethod
    def is_over(self, step: int) -> bool:
        """Whether the training ends after `step` steps."""

    @abstractmethod
    def is_due(self, step: int) -> bool:
        """Whether to validate after `step` steps."""

    @abstractmethod
    def total(self, step: int) -> int:
        """The number of steps of the whole training, or, after `step` steps, an estimate of it."""

    @abstractmethod
    def validated(self, step: int, seconds: float) -> None:
        """Notes that a validation after `step` steps took so many seconds, saving included."""

    @property
    @abstractmethod
    def next(self) -> tuple[int, int]:
        """The interval between validations and the step of the next one; zeros where time decides."""


class StepPace(Pace):
    """A training of `total` steps; all but the interval of slow validations is the same every time."""

    def __init__(self, settings: TrainSettings, steps_per_epoch: int, progress: Progress, begun: float):
        super().__init__(progress, begun)
        self._total = settings.total_steps(steps_per_epoch)
        self._unit = 1 if settings.epochs is None else steps_per_epoch
        self._interval = progress.interval or first_interval(settings, steps_per_epoch)
        self._next = progress.validate_at or progress.step + self._interval
        self._validating = 0.0

    def share(self, step: int) -> float:
        """See `Pace`."""
        return step / self._total

    def is_over(self, step: int) -> bool:
        """See `Pace`."""
        return step >= self._total

    def is_due(self, step: int) -> bool:
        """See `Pace`; a validation shortly before the last one is left out."""
        return step >= self._next and 2 * (self._total - step) >= self._interval

    def left(self) -> None:
        """See `Pace`."""

    def total(self, step: int) -> int:
        """See `Pace`."""
        return self._total

    def validated(self, step: int, seconds: float) -> None:
        """See `Pace`; the interval grows if validation takes too large a share of the time."""
        used = self.used()
        self._validating += seconds
        if self._validating > max(PATIENCE_SECONDS, VALIDATION_SHARE * used):
            step_seconds = max(used - self._validating, 1e-3) / max(step, 1)
            fitting = seconds * (1 / VALIDATION_SHARE - 1) / step_seconds
            self._interval = max(self._interval, self._unit * math.ceil(fitting / self._unit))
        self._next = step + self._interval

    @property
    def next(self) -> tuple[int, int]:
        """See `Pace`."""
        return self._interval, self._next


def first_interval(settings: TrainSettings, steps_per_epoch: int) -> int:
    """The steps between validations before any was measured: an epoch where its number is given.

    Else an epoch of a large set; a small one gets 30 validations, and every training at least 10.
    """
    if settings.epochs is not None:
        return steps_per_epoch
    total = settings.total_steps(steps_per_epoch)
    return max(1, min(max(steps_per_epoch, math.ceil(total / MOST)), total // LEAST))


class TimedPace(Pace):
    """A training of `minutes`: the last validation, and a detector's threshold, end with them.

    Its progress is the share of the time that is used, so the learning rate falls to 0 at the end, however
    fast the steps are. The same training twice differs.
    """

    def __init__(self, minutes: float, progress: Progress, begun: float, clock: Clock = time.monotonic):
        super().__init__(progress, begun, clock)
        self._budget = 60 * minutes
        self._reserve = self._budget / TIMED  # for the last validation, until one is measured
        self._gap = self._budget / TIMED
        self._fastest = math.inf
        self._since = self._began = self.used()
        self._first, self._is_traced = progress.step, False

    def left(self) -> float:
        """See `Pace`."""
        return max(0.0, self._budget - self.used())

    def share(self, step: int) -> float:
        """See `Pace`."""
        return min(1.0, self.used() / max(self._budget - self._reserve, 1e-9))

    def is_over(self, step: int) -> bool:
        """See `Pace`."""
        self._note_tracing(step)
        return self.used() + self._reserve + self._step_seconds(step) / 2 >= self._budget

    def is_due(self, step: int) -> bool:
        """See `Pace`."""
        return self.used() - self._since >= self._gap

    def total(self, step: int) -> int:
        """See `Pace`; the estimate takes the speed of all steps of this process but the first."""
        self._note_tracing(step)
        left = max(0.0, self._budget - self._reserve - self.used())
        return step + (round(left / seconds) if (seconds := self._step_seconds(step)) else 1)

    def validated(self, step: int, seconds: float) -> None:
        """See `Pace`."""
        self._fastest = min(self._fastest, seconds)  # the first one traces the model
        self._reserve = min(ENDING * seconds, self._budget / 2)
        self._gap = max(self._budget / TIMED, self._fastest * (1 / VALIDATION_SHARE - 1))
        self._since = self.used()
        self._began += seconds

    @property
    def next(self) -> tuple[int, int]:
        """See `Pace`."""
        return 0, 0

    def _note_tracing(self, step: int) -> None:
        """Leaves the first step, which traces the model, out of the measured speed."""
        if step > self._first and not self._is_traced:
            self._since = self._began = self.used()
            self._first, self._is_traced = step, True

    def _step_seconds(self, step: int) -> float:
        """The mean time of a step without validations; 0 until one is measured."""
        return (self.used() - self._began) / (step - self._first) if step > self._first else 0.0


def pace_of(settings: TrainSettings, steps_per_epoch: int, progress: Progress, begun: float) -> Pace:
    """The pace of a training whose settings state a length; `begun` is a time of `time.monotonic`."""
    if settings.minutes is not None:
        return TimedPace(settings.minutes, progress, begun)
    return StepPace(settings, steps_per_epoch, progress, begun)
