"""The training on several devices: a loop over `tf.distribute`, in one process or in each of a cluster.

Keras's `fit` fails in a cluster (keras-team/keras#20585). What is decided by time or by a validation, the
chief decides for all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from effkeras.layers.batch_norm import synchronize
from effkeras.support.backend import replica_number
from effkeras.training.callbacks import Hook
from effkeras.training.checkpoint import Progress
from effkeras.training.pace import Pace, TimedPace
from effkeras.training.pipeline import Part
from effkeras.training.session import Session, TrainingModels, TrainingPlan
from effkeras.training.strategies import Made


class Team(Protocol):
    """What the training needs of `effkeras.training.strategies.replicated.Replicated`."""

    distribution: Any
    replicas: int
    workers: int
    worker: int

    @property
    def is_chief(self) -> bool:
        """Whether this process validates and writes."""
        ...

    def scope(self) -> AbstractContextManager[object]:
        """Where variables are created that each device has a copy of."""
        ...

    def agreed(self, make: Callable[[], Sequence[float]], count: int) -> list[float]:
        """The `count` numbers that `make` returns on the chief, in every process; only there it is called."""
        ...

    def from_chief(
        self, make: Callable[[], Made], write: Callable[[Made], str], read: Callable[[str], Made]
    ) -> Made:
        """What `make` returns on the chief, see `Strategy`."""
        ...

    def share(self, variables: Sequence[Any]) -> None:
        """Gives the variables of every process the values of the chief's."""
        ...

    def watched(self) -> AbstractContextManager[None]:
        """Turns the error that follows the death of another process into one line."""
        ...


class ReplicatedSession(Session):
    """A `Session` whose steps run on all devices of a strategy, each with its part of the batch.

    Losses and gradients are summed over all devices, and batch normalisation takes its statistics from the
    whole batch: weights are those of one device but for the rounding of sums. Dropout and its relatives draw
    other numbers on each device.
    """

    def __init__(
        self,
        strategy: Team,
        plan: TrainingPlan,
        models: TrainingModels,
        hooks: Sequence[Hook] = (),
    ):
        self.strategy = strategy
        self._losses: list[float] = []  # since the last validation
        synchronize(models.model)
        _separate_seeds(models.model)
        super().__init__(plan, models, hooks)

    def _scope(self) -> AbstractContextManager[object]:
        return self.strategy.scope()

    def state(self) -> list[Any]:
        """See `Session`."""
        return [_Copies(variable) for variable in super().state()]

    def _restored(self) -> Progress:
        progress = self._agreed(super()._restored)
        self.strategy.share(self.state())
        return progress

    def _new_pace(self) -> Pace:
        pace = super()._new_pace()
        is_by_clock = isinstance(pace, TimedPace) and self.strategy.workers > 1
        return _AgreedPace(pace, self.strategy) if is_by_clock else pace

    def _part(self) -> Part:
        rows = self.plan.settings.batch // self.strategy.workers
        pieces = self.plan.settings.batch // self.strategy.replicas
        return Part(self.strategy.worker * rows, rows, pieces)

    def _train(
        self, data: tf.data.Dataset, count: int, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        # Endless, so that a cluster need not ask before each step whether all have a batch.
        data = data.repeat()
        batches = iter(self.strategy.distribution.distribute_datasets_from_function(lambda _: data))
        self.model.make_train_function(force=True)
        self.model.stop_training = False
        for callback in callbacks:
            callback.set_model(self.model)
            callback.on_train_begin()
        traced, step = None, self._step_function()
        for number in range(count):
            for callback in callbacks:
                callback.on_train_batch_begin(number)
            if traced is not self.model.train_function:  # also made anew where other layers train from now on
                traced, step = self.model.train_function, self._step_function()
            with self.strategy.watched():
                self._losses.append(float(step(batches)))
            logs = {"loss": sum(self._losses) / len(self._losses)}
            for callback in callbacks:
                callback.on_train_batch_end(number, logs)
            if self.model.stop_training:
                break
        for callback in callbacks:
            callback.on_train_end()

    def _step_function(self) -> Callable[[Any], tf.Tensor]:
        """A function that takes the next batch and returns its loss."""
        distribution, model, optimizer = self.strategy.distribution, self.model, self.model.optimizer

        def step_of_replica(pixels: Any, targets: Any) -> tf.Tensor:
            with tf.GradientTape() as tape:
                outputs = model(pixels, training=True)
                loss = model.compute_loss(x=pixels, y=targets, y_pred=outputs, training=True)
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        def step(batches: Any) -> tf.Tensor:
            losses = distribution.run(step_of_replica, args=next(batches))
            return distribution.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

        return tf.function(step, autograph=False)  # type: ignore[no-any-return]

    def validate(self, step: int, logs: dict[str, float]) -> None:
        """See `Session`; only the chief validates, for all."""

        def validated() -> Progress:
            super(ReplicatedSession, self).validate(step, logs)
            return self.progress

        self.progress = self._agreed(validated)
        self._losses.clear()
        if not self.strategy.is_chief and not isinstance(self.pace, _AgreedPace):
            self.pace = self._new_pace()  # which takes the next validation from the progress

    def _save(self, now: Progress) -> None:
        if self.strategy.is_chief:
            super()._save(now)

    def finish(self) -> keras.Model:
        """See `Session`; other processes than the chief return the last model and write nothing."""
        if self.strategy.is_chief:
            return super().finish()
        self._finalize()
        return self.final

    def _agreed(self, make: Callable[[], Progress]) -> Progress:
        """The progress of the chief, where alone `make` is called."""
        return self.strategy.from_chief(
            make, lambda now: json.dumps(asdict(now)), lambda text: Progress(**json.loads(text))
        )


class _Copies:
    """A variable of which each device has a copy, read and written as an array like others."""

    def __init__(self, variable: Any):
        self._variable = variable
        self.shape, self.dtype = tuple(variable.shape), variable.dtype.as_numpy_dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._variable.numpy(), dtype)

    def assign(self, value: np.ndarray) -> None:
        self._variable.assign(value)


class _AgreedPace(Pace):
    """A pace by the clock of the chief, so that all processes validate and end after the same steps."""

    def __init__(self, own: Pace, strategy: Team):
        self._own, self._strategy = own, strategy

    def used(self) -> float:
        return self._own.used()

    def left(self) -> float | None:
        return self._own.left()

    def share(self, step: int) -> float:
        return self._agreed(self._own.share, step)

    def is_over(self, step: int) -> bool:
        return bool(self._agreed(self._own.is_over, step))

    def is_due(self, step: int) -> bool:
        return bool(self._agreed(self._own.is_due, step))

    def total(self, step: int) -> int:
        return self._own.total(step)

    def validated(self, step: int, seconds: float) -> None:
        self._own.validated(step, seconds)

    @property
    def next(self) -> tuple[int, int]:
        return self._own.next

    def _agreed(self, ask: Callable[[int], float], step: int) -> float:
        return self._strategy.agreed(lambda: [ask(step)], 1)[0]


class _SeedsOfReplica(keras.random.SeedGenerator):
    """Random numbers of its own for each replica; those of the first are as on a single device."""

    def next(self, ordered: bool = True) -> Any:
        seed = super().next(ordered)
        return seed + tf.cast(tf.stack([replica_number(), 0]), seed.dtype) * 1_000_003


def _separate_seeds(model: keras.Model) -> None:
    """Lets each replica draw its own random numbers, in place; their states stay the same everywhere."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _separate_seeds(layer)
        for value in vars(layer).values():
            if type(value) is keras.random.SeedGenerator:
                value.__class__ = _SeedsOfReplica
