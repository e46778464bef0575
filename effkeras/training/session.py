"""The training in one process: steps, averaged weights, validation, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.progress import Progress as Bar

from effkeras.building.models import build_spec
from effkeras.data.records import LabelledData
from effkeras.data.splits import spread
from effkeras.data.store import ImageStore
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.evaluate import Evaluation, evaluate_in_detail, headlines
from effkeras.inference.predictor import KerasPredictor
from effkeras.inference.tasks.detection import DetectionJudge
from effkeras.layers.drop import set_progress
from effkeras.support import results
from effkeras.support.console import note, progress
from effkeras.training.callbacks import AveragedWeights, Hook, RisingMomentum
from effkeras.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from effkeras.training.compiling import compile_for, compile_with, schedule_of
from effkeras.training.fitted import repeat_factors
from effkeras.training.freezing import Unfreeze
from effkeras.training.hints import check_loss, rising, unseen
from effkeras.training.optimizers import TimedCosine
from effkeras.training.pace import Pace, TimedPace, pace_of
from effkeras.training.pipeline import BatchSpec, Part, training_batches
from effkeras.training.progressive import Stage, set_dropout, sized, stages_of
from effkeras.training.run import Run
from effkeras.training.settings import LENGTHS, TrainSettings
from effkeras.weights.keras_files import load_weights_of, save


def _unchanged(data: tf.data.Dataset) -> tf.data.Dataset:
    return data


@dataclass(frozen=True, eq=False, slots=True)
class TrainingModels:
    """The models of one training.

    `model` is the model that `fit` trains: `plain` itself, or a model around it that shares its weights and
    needs `targets`. `final` makes the model that gets the averages of `plain`'s weights and is validated and
    saved; it is called before the first validation, so that training starts without it. The layers `frozen`
    keep their weights, until `settings.unfreeze_at` if that is set. `sized` builds `plain` for another size.
    """

    plain: keras.Model
    model: keras.Model
    final: Callable[[], keras.Model]
    sized: Callable[[ModelSpec], keras.Model] = build_spec
    targets: Callable[[tf.data.Dataset], tf.data.Dataset] = _unchanged
    frozen: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The definition, data, settings and run folder of a training.

    `class_weights` are factors of the losses for each class, or none. `begun` is when it began, by
    `time.monotonic`. With `keeps_best` the model of the best validation is its result, else the last.
    """

    spec: ModelSpec
    validation: LabelledData | None
    settings: TrainSettings
    steps_per_epoch: int
    out: Path
    class_weights: tuple[float, ...] = ()
    keeps_best: bool = True
    begun: float = field(default_factory=time.monotonic)


# A training that validates rarely writes its checkpoint this often.
CHECKPOINT_SECONDS = 600.0
# Early stopping ends no training in its first third, and by default after a fifth without improvement.
SHORTEST, PATIENCE = 1 / 3, 1 / 5
ENDLESS = 10**9


class Session:
    """Trains to the end; by steps or epochs, weights are bit-equal however often it is interrupted."""

    def __init__(self, plan: TrainingPlan, models: TrainingModels, hooks: Sequence[Hook] = ()):
        self.plan = plan
        self.run = Run(plan.out)
        self.plain, self.model, self._make_final = models.plain, models.model, models.final
        self.hooks = tuple(hooks)
        self._targets = models.targets
        self._late = models.frozen if plan.settings.unfreeze_at else ()
        self.progress = Progress()
        self._saved = 0.0
        self._highest: float | None = None  # score of the last validation
        self._fitted = self.model  # the model of this stage
        self._sized = models.sized
        self._stage = 0
        self._is_best = False  # whether `final` holds the weights of the saved model
        # Of the saved model, if that was validated in this process.
        self.best: Evaluation | None = None
        self._start()

    @cached_property
    def final(self) -> keras.Model:
        """The model of averaged weights, see `TrainingModels`."""
        return self._make_final()

    def _start(self) -> None:
        """Compiles the model and restores the checkpoint in the run folder."""
        plan, settings = self.plan, self.plan.settings
        self.stages = stages_of(settings.progressive, plan.spec, settings.augment)
        self.schedule = schedule_of(settings, plan.steps_per_epoch)
        with self._scope():
            compile_for(
                self.model, plan.spec, settings, plan.steps_per_epoch, plan.class_weights, self.schedule
            )
            self.model.optimizer.build(self.model.trainable_variables)
        for hook in self.hooks:
            hook.attach(self.plain, settings.total_steps(plan.steps_per_epoch))
        self.average = AveragedWeights(self.plain, settings.ema, settings.accumulate)
        self.progress = self._restored()
        self.step = self.progress.step
        self.pace = self._new_pace()

    def _scope(self) -> AbstractContextManager[object]:
        """Where the variables of the training are created."""
        return nullcontext()

    def _restored(self) -> Progress:
        """Restores the checkpoint, if there is one, and returns the progress."""
        if not self.run.checkpoint.is_file():
            return Progress()
        progress = load_checkpoint(self.run.checkpoint, self.state(), self.plan.steps_per_epoch)
        if self.plan.keeps_best and not self.run.model.is_file():  # as older versions left it
            return replace(progress, best=Progress().best)
        return progress

    def _new_pace(self) -> Pace:
        """The pace from the progress on."""
        return pace_of(self.plan.settings, self.plan.steps_per_epoch, self.progress, self.plan.begun)

    def state(self) -> list[Any]:
        """All variables that the rest of the training depends on."""
        own = [*self.model.variables, *self.model.optimizer.variables]
        own += [variable for hook in self.hooks for variable in hook.state()]
        return [*(getattr(one, "value", one) for one in own), *self.average.values]

    def go_on(self, before: TrainSettings) -> None:
        """Says where a training goes on, and makes one go on that was over by the settings `before`."""
        step, settings = self.progress.step, self.plan.settings
        if step == 0:
            return
        self.run.keep_row(self.progress.row)  # unless a kill came before it
        changed = [name for name in LENGTHS if getattr(settings, name) != getattr(before, name)]
        if changed:
            self.progress = replace(self.progress, stopped=False, interval=0, validate_at=0)
            self.pace = self._new_pace()
        if not self.is_finished():
            note(
                f"{self.run.folder} goes on after step {step:,}"
                + ("" if settings.minutes else f" of {self.pace.total(step):,}")
                + (f", on the learning rates of {_length(settings)}" if changed else "")
            )

    def is_finished(self) -> bool:
        """Whether all steps are done, or early stopping has ended the training."""
        return self.pace.is_over(self.progress.step) or self.progress.stopped

    def fit(self, store: ImageStore) -> None:
        """Trains from the last checkpoint to the end."""
        with progress() as bar:
            callbacks = [
                _FollowPace(self),
                RisingMomentum(self.plain),
                *self.hooks,  # before the averages, which then include the hooks' changes
                self.average,
                _Bar(bar, self),
                _StepEnd(self),
            ]
            self._fit_stage(store, callbacks)
            while not self._is_over() and self._stage_after(self.step) != self._stage:
                self._fit_stage(store, callbacks)
        for line in self._advice():
            note(line)

    def _fit_stage(self, store: ImageStore, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Trains to the end of the stage; a training that is not progressive has only one."""
        settings, first = self.plan.settings, self.step
        self._stage = self._stage_after(first)
        stage = self.stages[self._stage]
        if len(self.stages) > 1:
            self._resize(stage)
            height, width = stage.spec.input.size
            note(f"stage {self._stage + 1} of {len(self.stages)}: images of {height}x{width}")
        if stage.spec != self.plan.spec:
            store = store.resized(stage.spec.input)
        repeats = repeat_factors(store.classes()) if settings.sampling == "balanced" else ()
        batches = BatchSpec(settings.batch, settings.seed, stage.augment, repeats, self._part())
        count = ENDLESS if settings.minutes else self.pace.total(first) - first
        data = self._targets(training_batches(store, stage.spec, batches, range(first, first + count)))
        with self._scope():
            _try_losses(self._fitted, data)
        unfreeze = Unfreeze(self._late, settings.unfreeze_at, first, self.pace.share)
        try:
            self._train(data, count, [unfreeze, *callbacks])
        except tf.errors.OpError:
            store.check()  # an error inside tf.data arrives as a TensorFlow error
            raise

    def _is_over(self) -> bool:
        return self.progress.stopped or self.pace.is_over(self.step)

    def _stage_after(self, step: int) -> int:
        """The number of the stage, from 0, after `step` steps."""
        progressive = self.plan.settings.progressive
        return progressive.stage_after(self.pace.share(step)) if progressive else 0

    def _resize(self, stage: Stage) -> None:
        """Makes the model for the images of a stage, which shares layers and optimizer with the whole one."""
        if stage.dropout is not None:
            set_dropout(self.model, stage.dropout)
        self._fitted = self.model
        if stage.spec != self.plan.spec:
            self._fitted = sized(self.model, self._sized(stage.spec))
        settings = replace(self.plan.settings, augment=stage.augment)
        compile_with(self.model.optimizer, self._fitted, stage.spec, settings, self.plan.class_weights)

    def _part(self) -> Part | None:
        """The part of each batch that this process takes; None for all of it."""
        return None

    def _train(
        self, data: tf.data.Dataset, count: int, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        """Trains `count` steps, or until a callback stops the training."""
        self._fitted.fit(data, steps_per_epoch=count, callbacks=list(callbacks), shuffle=False, verbose=0)

    def end_step(self, step: int, logs: dict[str, float]) -> None:
        """Validates, writes a checkpoint or ends the training or its stage, as due after `step` steps.

        Raises EffkerasError if the loss is NaN.
        """
        self.step = step
        check_loss(logs.get("loss", 0.0), step, self.plan.settings)
        if self.pace.is_over(step) or self.pace.is_due(step):
            self.validate(step, logs)
            self._fitted.reset_metrics()
            if self._is_over():
                self._fitted.stop_training = True
        elif self.pace.used() - self._saved > CHECKPOINT_SECONDS:
            self._save(replace(self.progress, step=step))
        if self._stage_after(step) != self._stage:
            self._fitted.stop_training = True

    def validate(self, step: int, logs: dict[str, float]) -> None:
        """Validates the averaged weights, keeps the best, and decides whether to stop."""
        start = self.pace.used()
        self._finalize()
        evaluation = self._validate()
        metrics = evaluation.metrics if evaluation else {}
        score = _score(self.plan.spec, metrics, step) if self._is_complete(step) else float("-inf")
        # Of equal ones, the longer trained.
        self._is_best = self.plan.keeps_best and score >= self.progress.best
        if self._is_best:
            save(self.final, self.run.model)
            self.best = evaluation
        row = {"kind": "epoch", "epoch": self._epoch(step), "step": step, "loss": logs.get("loss")}
        self.pace.validated(step, self.pace.used() - start)
        self._save(replace(self._scored(step, score), row={**row, "metrics": metrics}))
        self.run.keep_row(self.progress.row)
        note(self._line(logs, metrics))

    def _scored(self, step: int, score: float) -> Progress:
        """The progress after a validation."""
        settings, now = self.plan.settings, replace(self.progress, step=step)
        if score > now.best or not self._is_complete(step):
            return replace(now, best=score, best_step=step, waited=0)
        now = replace(now, waited=now.waited + 1)
        share = self.pace.share(step)
        if settings.patience is None:
            is_enough = share * (step - now.best_step) / step >= PATIENCE
        else:
            is_enough = now.waited >= settings.patience
        return replace(now, stopped=settings.early_stop and is_enough and share >= SHORTEST)

    def _is_complete(self, step: int) -> bool:
        """Whether the hooks have given the model its final form."""
        return all(step >= hook.complete_from for hook in self.hooks)

    def _save(self, now: Progress) -> None:
        interval, following = self.pace.next
        self._saved = self.pace.used()
        self.progress = replace(now, interval=interval, validate_at=following, seconds=self._saved)
        save_checkpoint(self.run.checkpoint, self.state(), self.progress)

    def finish(self) -> keras.Model:
        """Saves and returns the model: the best validated one if the plan keeps it, else the last."""
        if self.plan.keeps_best and self.run.model.is_file():
            if not self._is_best:
                load_weights_of(self.final, self.run.model)
            return self.final
        self._finalize()
        save(self.final, self.run.model)
        return self.final

    def _epoch(self, step: int) -> int:
        """The number of the epoch, from 1, that the last of `step` steps belongs to."""
        return -(-step // self.plan.steps_per_epoch)

    def _line(self, logs: dict[str, float], metrics: dict[str, float]) -> str:
        """The line for a validation."""
        step, settings = self.progress.step, self.plan.settings
        if settings.epochs:
            place = f"epoch {self._epoch(step)}/{settings.epochs}"
        else:
            place = f"step {step:,}" if settings.minutes else f"step {step:,}/{self.pace.total(step):,}"
        shown = [*list(metrics)[:3], *(name for name in list(metrics)[3:] if name == "mIoU")]
        figures = ", ".join(f"{name} {metrics[name]:.3f}" for name in shown)
        loss = f"loss {logs.get('loss', float('nan')):.3f}"
        ending = "; no improvement, stopping early" if self.progress.stopped else ""
        return f"{place}: {loss}" + (f", {figures}" if figures else "") + ending

    def _advice(self) -> Iterator[str]:
        """One line for each thing to do after the training."""
        if self.plan.validation is None:
            return
        yield from unseen(self._highest)
        if not self.progress.stopped:
            metric = headlines(self.plan.spec)[0]
            rows = [row for row in results.read(self.run.results) if row.get("kind") == "epoch"]
            course = [(row["step"], row["metrics"].get(metric, 0.0)) for row in rows if "step" in row]
            yield from rising(metric, course, self.plan.settings)

    def _finalize(self) -> None:
        self.average.copy_to(self.final)
        for hook in self.hooks:
            hook.finalize(self.final)

    @cached_property
    def _predictor(self) -> KerasPredictor:
        return KerasPredictor(self.final, self.plan.spec)

    def _validate(self) -> Evaluation | None:
        if self.plan.validation is None:
            return None
        images = spread(self.plan.validation, self.plan.settings.validation_images)
        evaluation = evaluate_in_detail(self._predictor, images, title="validating")
        judges = [judge for judge in evaluation.judges.values() if isinstance(judge, DetectionJudge)]
        self._highest = judges[0].highest() if judges else None
        return evaluation


def _try_losses(model: keras.Model, data: tf.data.Dataset) -> None:
    """Calls the losses once, because losses of several outputs create variables on the first call.

    Without this, TensorFlow would trace the whole first step twice.
    """
    x, y = tf.nest.map_structure(_one_of_zeros, data.element_spec[:2])
    model.compute_loss(x, y, keras.tree.map_structure(_one_of_zeros, model.output))
    model.reset_metrics()


def _one_of_zeros(batch: tf.TensorSpec | keras.KerasTensor) -> tf.Tensor:
    return tf.zeros((1, *batch.shape[1:]), batch.dtype)


class _FollowPace(keras.callbacks.Callback):
    """Sets the progress of scheduled layers and of a learning rate that falls with time."""

    def __init__(self, session: Session):
        super().__init__()
        self._session = session

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        share = self._session.pace.share(self._session.step)
        set_progress(self.model, share)
        if isinstance(self._session.schedule, TimedCosine):
            self._session.schedule.set_share(share)


class _StepEnd(keras.callbacks.Callback):
    def __init__(self, session: Session):
        super().__init__()
        self._session = session

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._session.end_step(self._session.step + 1, logs or {})


class _Bar(keras.callbacks.Callback):
    """A progress bar over all steps; it says when TensorFlow is tracing, before the first step ends."""

    def __init__(self, bar: Bar, session: Session):
        super().__init__()
        self._bar = bar
        self._pace = session.pace
        self._step = session.progress.step
        self._task = bar.add_task("tracing", total=self._pace.total(self._step), completed=self._step)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._step += 1
        loss = (logs or {}).get("loss", float("nan"))
        total = self._pace.total(self._step)
        left, said = self._pace.left(), f"loss {loss:.3f}"
        self._bar.update(self._task, total=total, completed=self._step, description=said, left=left)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if isinstance(self._pace, TimedPace):  # whose total was an estimate
            self._bar.update(self._task, total=self._step)


def _score(spec: ModelSpec, metrics: dict[str, float], step: int) -> float:
    """The score that decides: the mean over the heads; without validation the last step is best."""
    found = [metrics[name] for name in headlines(spec) if name in metrics]
    return sum(found) / len(found) if found else float(step)


def _length(settings: TrainSettings) -> str:
    """The length of a training as text."""
    return next(f"{value:,g} {name}" for name in LENGTHS if (value := getattr(settings, name)) is not None)
