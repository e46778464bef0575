"""How many steps the trainings of a recipe may take, so that a command ends within its minutes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import keras

from effkeras.data.classes import matched
from effkeras.support.console import note
from effkeras.training.compiling import compile_for
from effkeras.training.defaults import steps_of_epoch
from effkeras.training.loop import TuneJob, class_weights, copy_of
from effkeras.training.pace import VALIDATION_SHARE
from effkeras.training.pipeline import BatchSpec, training_batches
from effkeras.training.run import Run
from effkeras.training.settings import TrainSettings

# The least share of the minutes for what follows the trainings: conversion, calibration, measurement.
FOR_THE_REST = 0.2
LEAST_STEPS, FEW_STEPS = 10, 50
# With minutes, a training that stops by itself may take so many times the steps that it has without.
LONGEST = 5
TIMED_STEPS, UNTIMED_STEPS = 6, 3  # the first ones trace, and fill the input pipeline


@dataclass(frozen=True, eq=False, slots=True)
class TimeLimit:
    """The minutes of a whole command, which has `begun` at a time of `clock`, in seconds.

    `images` go through the network after the trainings, to quantize and to measure.
    """

    minutes: float
    begun: float
    clock: Callable[[], float] = field(default=time.monotonic)
    images: float = 0

    def seconds(self, trainings: int, start: float, an_image: float = 0.0) -> float:
        """The seconds for the steps of the next of `trainings` that are left.

        Timing and starting a training take `start` seconds each; this one is timed already. Each of the
        `images` after the trainings takes `an_image` seconds.
        """
        rest = max(60 * self.minutes * FOR_THE_REST, self.images * an_image)
        end = self.begun + 60 * self.minutes - rest
        return max(0.0, end - self.clock() - (2 * trainings - 1) * start) / trainings


def within(limit: TimeLimit | None, trainings: int, job: TuneJob) -> TuneJob:
    """The fine-tuning with as many steps as the limit allows, if it ends when val stops improving.

    Else, and with stated epochs, it has no more steps than without a limit. One that an earlier run has
    begun keeps its steps.
    """
    before = Run(job.out).kept_settings()
    if before is not None:
        return replace(job, settings=replace(job.settings, epochs=before.epochs, steps=before.steps))
    if limit is None:
        return job
    settings = job.settings
    own = settings.total_steps(steps_of_epoch(len(job.train.records), settings.batch))
    most = own * LONGEST if settings.early_stop and settings.epochs is None else own
    before_timing = limit.clock()
    a_step = step_seconds(job)
    # Reading and judging an image takes at most as long as the backward pass that it is spared.
    seconds = limit.seconds(trainings, limit.clock() - before_timing, a_step / settings.batch)
    allowed = int(seconds * (1 - VALIDATION_SHARE) / a_step)
    steps = max(LEAST_STEPS, min(most, allowed))
    few = "" if steps >= min(most, FEW_STEPS) else ", too few to win back what was lost: give more minutes"
    fit = f"{steps:,} steps of {most:,} fit into --minutes {limit.minutes:g}{few}"
    note(f"a step takes {a_step:.2g} s: {fit}")
    return job if steps == own else replace(job, settings=_with_steps(settings, steps))


def step_seconds(job: TuneJob) -> float:
    """The seconds of a training step of a fine-tuning, timed on a copy; no files are written."""
    job = job.with_store()
    train, store = matched(job.train, job.spec), job.store
    assert store is not None
    count = UNTIMED_STEPS + TIMED_STEPS
    settings = _with_steps(job.settings, count)
    per_epoch = steps_of_epoch(len(store), settings.batch)
    model = job.wrap(copy_of(job.model))
    compile_for(model, job.spec, settings, per_epoch, class_weights(train, job.spec, settings))
    batches = BatchSpec(settings.batch, settings.seed, settings.augment)
    data = training_batches(store, job.spec, batches, range(count))
    timer = _Timer()
    model.fit(data, steps_per_epoch=count, callbacks=[timer], shuffle=False, verbose=0)
    return statistics.median(timer.seconds[UNTIMED_STEPS:])


def _with_steps(settings: TrainSettings, steps: int) -> TrainSettings:
    return replace(settings, epochs=None, minutes=None, steps=steps)


class _Timer(keras.callbacks.Callback):
    """The seconds of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._last = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.monotonic()
        self.seconds.append(now - self._last)
        self._last = now
