"""The training in one process: steps, averaged weights, validation, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.progress import Progress as Bar

from effkeras.data.records import LabelledData
from effkeras.data.splits import spread
from effkeras.data.store import ImageStore
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.evaluate import evaluate, headlines
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers import FollowTraining
from effkeras.support import results
from effkeras.support.console import note, progress
from effkeras.training.callbacks import AveragedWeights, Hook, RisingMomentum
from effkeras.training.compiling import compile_for
from effkeras.training.pipeline import BatchSpec, training_batches
from effkeras.training.run import Progress, Run, TrainSettings, load_checkpoint, save_checkpoint
from effkeras.weights.keras_files import load_weights_of, save


def _unchanged(data: tf.data.Dataset) -> tf.data.Dataset:
    return data


@dataclass(frozen=True, eq=False, slots=True)
class TrainingModels:
    """The models of one training.

    `model` is the model that `fit` trains: `plain` itself, or a model around it that shares its weights and
    needs `targets`. `final` gets the averages of `plain`'s weights; it is validated and saved.
    """

    plain: keras.Model
    model: keras.Model
    final: keras.Model
    targets: Callable[[tf.data.Dataset], tf.data.Dataset] = _unchanged


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The definition, data, settings and run folder of a training.

    `class_weights` are factors of the losses for each class, or none.
    """

    spec: ModelSpec
    validation: LabelledData | None
    settings: TrainSettings
    steps_per_epoch: int
    out: Path
    class_weights: tuple[float, ...] = ()

    @property
    def steps(self) -> int:
        """The number of steps of the whole training."""
        return self.settings.epochs * self.steps_per_epoch


class Session:
    """Trains to the end; results are bit-equal however often it is interrupted."""

    def __init__(self, plan: TrainingPlan, models: TrainingModels, hooks: Sequence[Hook] = ()):
        self.plan = plan
        self.run = Run(plan.out)
        self.plain, self.model, self.final = models.plain, models.model, models.final
        self.hooks = tuple(hooks)
        self._targets = models.targets
        self.progress = Progress()
        self._start()

    def _start(self) -> None:
        """Compiles the model and restores the checkpoint in the run folder."""
        plan, settings = self.plan, self.plan.settings
        compile_for(self.model, plan.spec, settings, plan.steps_per_epoch, plan.class_weights)
        self.model.optimizer.build(self.model.trainable_variables)
        for hook in self.hooks:
            hook.attach(self.plain, self.plan.steps)
        self.average = AveragedWeights(self.plain, settings.ema, settings.accumulate)
        if self.run.checkpoint.is_file():
            self.progress = load_checkpoint(self.run.checkpoint, self.state())

    def state(self) -> list[Any]:
        """All variables that the rest of the training depends on."""
        own = [*self.model.variables, *self.model.optimizer.variables]
        own += [variable for hook in self.hooks for variable in hook.state()]
        return [*(getattr(one, "value", one) for one in own), *self.average.values]

    def is_finished(self) -> bool:
        """Whether all epochs are done, or early stopping has ended the training."""
        return self.progress.epoch >= self.plan.settings.epochs or self.progress.stopped

    def fit(self, store: ImageStore) -> None:
        """Trains from the last checkpoint to the end."""
        settings, first, per_epoch = self.plan.settings, self.progress.epoch, self.plan.steps_per_epoch
        batches = BatchSpec(settings.batch, settings.seed, settings.augment)
        steps = range(first * per_epoch, self.plan.steps)
        data = self._targets(training_batches(store, self.plan.spec, batches, steps))
        _try_losses(self.model, data)
        with progress() as bar:
            try:
                self.model.fit(
                    data,
                    epochs=settings.epochs,
                    initial_epoch=first,
                    steps_per_epoch=per_epoch,
                    callbacks=[
                        FollowTraining(steps.stop, steps.start),
                        RisingMomentum(self.plain),
                        *self.hooks,  # before the averages, which then include the hooks' changes
                        self.average,
                        _EpochEnd(self),
                        _Bar(bar, steps),
                    ],
                    shuffle=False,
                    verbose=0,
                )
            except tf.errors.OpError:
                store.check()  # an error inside tf.data arrives as a TensorFlow error
                raise

    def end_epoch(self, epoch: int, logs: dict[str, float]) -> None:
        """Validates the averaged weights, writes the checkpoint, and decides whether to stop."""
        self._finalize()
        settings, metrics = self.plan.settings, self._validate()
        score = _score(self.plan.spec, metrics, epoch)
        now = replace(self.progress, epoch=epoch + 1)
        if score > now.best:
            now = replace(now, best=score, best_epoch=epoch + 1)
            if settings.early_stop:
                save(self.final, self.run.model)
        waited = now.epoch - now.best_epoch
        self.progress = replace(now, stopped=settings.early_stop and waited >= settings.patience)
        save_checkpoint(self.run.checkpoint, self.state(), self.progress)
        row = {"kind": "epoch", "epoch": epoch + 1, "loss": logs.get("loss"), "metrics": metrics}
        results.append(self.run.results, [row])
        self.model.stop_training = self.progress.stopped
        note(_epoch_line(self.progress, settings, logs, metrics))

    def finish(self) -> keras.Model:
        """Saves and returns the model: with early stopping the best validated one, else the last."""
        if self.plan.settings.early_stop and self.run.model.is_file():
            load_weights_of(self.final, self.run.model)
            return self.final
        self._finalize()
        save(self.final, self.run.model)
        return self.final

    def _finalize(self) -> None:
        self.average.copy_to(self.final)
        for hook in self.hooks:
            hook.finalize(self.final)

    def _validate(self) -> dict[str, float]:
        if self.plan.validation is None:
            return {}
        predictor = KerasPredictor(self.final, self.plan.spec)
        images = spread(self.plan.validation, self.plan.settings.validation_images)
        return evaluate(predictor, images, title="validating")


def _try_losses(model: keras.Model, data: tf.data.Dataset) -> None:
    """Calls the losses once, because losses of several outputs create variables on the first call.

    Without this, TensorFlow would trace the whole first step twice.
    """
    x, y = tf.nest.map_structure(_one_of_zeros, data.element_spec[:2])
    model.compute_loss(x, y, keras.tree.map_structure(_one_of_zeros, model.output))
    model.reset_metrics()


def _one_of_zeros(batch: tf.TensorSpec | keras.KerasTensor) -> tf.Tensor:
    return tf.zeros((1, *batch.shape[1:]), batch.dtype)


class _EpochEnd(keras.callbacks.Callback):
    def __init__(self, session: Session):
        super().__init__()
        self._session = session

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._session.end_epoch(epoch, logs or {})


class _Bar(keras.callbacks.Callback):
    """A progress bar over all steps; it says when TensorFlow is tracing, before the first step ends."""

    def __init__(self, bar: Bar, steps: range):
        super().__init__()
        self._bar = bar
        self._task = bar.add_task("training: tracing", total=steps.stop, completed=steps.start)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        loss = (logs or {}).get("loss", float("nan"))
        self._bar.update(self._task, advance=1, description=f"training: loss {loss:.3f}")


def _score(spec: ModelSpec, metrics: dict[str, float], epoch: int) -> float:
    """The score for early stopping: the mean over the heads; without validation the last epoch is best."""
    found = [metrics[name] for name in headlines(spec) if name in metrics]
    return sum(found) / len(found) if found else float(epoch)


def _epoch_line(
    at: Progress, settings: TrainSettings, logs: dict[str, float], metrics: dict[str, float]
) -> str:
    shown = [*list(metrics)[:3], *(name for name in list(metrics)[3:] if name == "mIoU")]
    figures = ", ".join(f"{name} {metrics[name]:.3f}" for name in shown)
    loss = f"loss {logs.get('loss', float('nan')):.3f}"
    ending = "; no improvement, stopping early" if at.stopped else ""
    return f"epoch {at.epoch}/{settings.epochs}: {loss}" + (f", {figures}" if figures else "") + ending
