"""Trains a model on labelled pictures into a run folder, and resumes where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.progress import Progress as Bar

from effkeras import results
from effkeras.checkpoints import load_weights, open_weights
from effkeras.console import note, progress
from effkeras.data.masks import MaskClasses
from effkeras.data.pipeline import BatchSpec, training_batches
from effkeras.data.records import DetectionData, LabelledData
from effkeras.data.store import PictureStore
from effkeras.definition import ModelSpec
from effkeras.detection.losses import detector_losses
from effkeras.errors import EffkerasError
from effkeras.evaluate import evaluate, headlines
from effkeras.external import is_in_backbone, own_part
from effkeras.layers import FollowTraining
from effkeras.models import build_spec, save, spec_of
from effkeras.predictor import KerasPredictor
from effkeras.segmentation.losses import mask_loss
from effkeras.training.auxiliary import (
    auxiliary_losses,
    auxiliary_targets,
    auxiliary_weight,
    with_auxiliary,
)
from effkeras.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from effkeras.training.ema import AveragedWeights
from effkeras.training.losses import classifier_loss
from effkeras.training.run import Run
from effkeras.training.schedule import WarmupCosine
from effkeras.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, on what, how, and where to.

    `model` is for a detector on a Keras model of one's own, which its definition cannot build: training
    starts from that model's weights, in a copy.
    """

    spec: ModelSpec
    train: LabelledData
    validation: LabelledData | None
    settings: TrainSettings
    out: Path
    weights: str | None = None
    model: keras.Model | None = None


def spec_for_data(spec: ModelSpec, data: LabelledData) -> ModelSpec:
    """The definition with the classes of the data set."""
    ids = tuple(c.id for c in data.categories) if isinstance(data, DetectionData) else ()
    if spec.is_detector != isinstance(data, DetectionData) or (spec.detects and not _has_boxes(data)):
        wanted = "pictures with boxes (COCO)" if spec.is_detector else "a folder per class"
        raise EffkerasError(f"{data.root} does not fit {spec.name}, which needs {wanted}")
    return spec.replace(classes=len(data.labels), labels=data.labels, category_ids=ids)


def train(job: Job) -> keras.Model:
    """Trains, or goes on training, and returns the model with averaged weights.

    The run folder then holds the model, its definition and labels, a checkpoint and the history of
    validations. Training is the same to the bit whether or not it was interrupted.

    Raises:
        EffkerasError: data or weights that do not fit, another run in the folder, an unwritable folder.
    """
    job = replace(job, spec=spec_for_data(job.spec, job.train))
    if job.weights:  # they bring the preprocessing that they were trained with
        job = replace(job, spec=open_weights(job.spec, job.weights).spec)
    _check(job)
    run = Run(job.out)
    run.check(job.spec, job.settings)
    keras.utils.set_random_seed(job.settings.seed)
    store = PictureStore(job.train, job.spec.input, _mask_classes(job.spec, job.train))
    session = _Session.start(job, run, steps_per_epoch=max(1, len(store) // job.settings.batch))
    run.start(job.spec, job.settings)  # after all that bad input could stop
    if session.is_finished():
        note(f"{run.folder} is already trained; delete the folder to train again")
    else:
        session.fit(store)
    return session.finish()


def spread(data: LabelledData, count: int) -> LabelledData:
    """At most `count` pictures from all over the data: class folders come sorted by class."""
    total = len(data.records)
    if total <= count:
        return data
    chosen = [data.records[index * total // count] for index in range(count)]
    return replace(data, records=tuple(chosen))  # type: ignore[arg-type]


def compile_for(model: keras.Model, spec: ModelSpec, settings: TrainSettings, steps: int) -> None:
    """Compiles a model with the losses of its family and the optimizer of the settings.

    `steps` is the number of steps per epoch. A model `with_auxiliary` gets the losses of both outputs.
    """
    warmup, total = int(settings.warmup_epochs * steps), settings.epochs * steps
    schedule = WarmupCosine(settings.learning_rate, warmup, total)
    optimizer = _optimizer(settings, schedule)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "w0", "w1", "w2"])
    if spec.is_detector:
        boxes = detector_losses(settings.label_smoothing) if spec.detects else {}
        model.compile(optimizer, loss=boxes | ({"mask_logits": mask_loss()} if spec.segments else {}))
    elif auxiliary_weight(spec):
        loss = partial(classifier_loss, settings.label_smoothing)
        model.compile(optimizer, **auxiliary_losses(model, loss, auxiliary_weight(spec)))
    else:
        model.compile(optimizer, loss=classifier_loss(settings.label_smoothing))


def freeze(model: keras.Model, what: str) -> None:
    """Stops the training of a part: "backbone" or "none"; its batch normalisation keeps its statistics."""
    if what == "none":
        return
    is_frozen = is_in_backbone(spec_of(model))
    for layer in model.layers:
        layer.trainable = not is_frozen(layer.name)


def _has_boxes(data: LabelledData) -> bool:
    return isinstance(data, DetectionData) and any(len(record.boxes) for record in data.records)


def _mask_classes(spec: ModelSpec, data: LabelledData) -> MaskClasses | None:
    if not spec.segments or not isinstance(data, DetectionData):
        return None
    return MaskClasses.of(spec, data, [category.id for category in data.categories])


def _check(job: Job) -> None:
    if job.validation is not None:
        _mask_classes(job.spec, job.validation)
    if job.settings.early_stop and job.validation is None:
        raise EffkerasError(f"early stopping watches the split val, which {job.train.root} does not have")
    if job.settings.label_smoothing and job.spec.is_detector and not job.spec.detects:
        raise EffkerasError(f"label_smoothing is not a mask's setting, and {job.spec.name} finds no boxes")


def _score(spec: ModelSpec, metrics: dict[str, float], epoch: int) -> float:
    """What early stopping looks at: the mean over the heads; without validation the last epoch is best."""
    found = [metrics[name] for name in headlines(spec) if name in metrics]
    return sum(found) / len(found) if found else float(epoch)


def _optimizer(settings: TrainSettings, schedule: WarmupCosine) -> keras.optimizers.Optimizer:
    decay = settings.weight_decay or None
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(
            schedule, momentum=0.9, weight_decay=decay, global_clipnorm=settings.clip_norm
        )
    return keras.optimizers.AdamW(
        schedule, weight_decay=settings.weight_decay, global_clipnorm=settings.clip_norm
    )


class _Session:
    """One process's part of a training."""

    def __init__(self, job: Job, run: Run, steps_per_epoch: int):
        self.job = job
        self.run = run
        self.steps = steps_per_epoch
        dtype = "mixed_bfloat16" if job.settings.mixed_precision else "float32"
        part = own_part(job.model, job.spec) if job.model is not None else None
        self.plain = build_spec(job.spec, dtype=dtype, part=part)
        self.model = with_auxiliary(self.plain) if auxiliary_weight(job.spec) else self.plain
        self.average: AveragedWeights
        self.progress = Progress()
        self.final = build_spec(job.spec, part=part)  # plain float32, whatever precision is trained in

    @classmethod
    def start(cls, job: Job, run: Run, steps_per_epoch: int) -> _Session:
        """Builds the model and restores what the run folder holds."""
        session = cls(job, run, steps_per_epoch)
        if job.weights and not run.checkpoint.is_file():
            load_weights(session.plain, job.weights)
        freeze(session.model, job.settings.freeze)
        compile_for(session.model, job.spec, job.settings, steps_per_epoch)
        session.model.optimizer.build(session.model.trainable_variables)
        session.average = AveragedWeights(session.plain, job.settings.ema)
        if run.checkpoint.is_file():
            session.progress = load_checkpoint(run.checkpoint, session.state())
        return session

    def state(self) -> list[Any]:
        """All variables that the rest of the training depends on."""
        optimizer = self.model.optimizer.variables
        return [*(v.value for v in self.model.variables), *(v.value for v in optimizer), *self.average.values]

    def is_finished(self) -> bool:
        return self.progress.epoch >= self.job.settings.epochs or self.progress.stopped

    def fit(self, store: PictureStore) -> None:
        settings, first = self.job.settings, self.progress.epoch
        batches = BatchSpec(settings.batch, settings.seed, settings.augment)
        steps = range(first * self.steps, settings.epochs * self.steps)
        data = training_batches(store, self.job.spec, batches, steps)
        if self.model is not self.plain:
            data = auxiliary_targets(self.model, data)
        with progress() as bar:
            try:
                self.model.fit(
                    data,
                    epochs=settings.epochs,
                    initial_epoch=first,
                    steps_per_epoch=self.steps,
                    callbacks=[
                        FollowTraining(steps.stop, steps.start),
                        self.average,
                        _EpochEnd(self),
                        _Bar(bar, steps),
                    ],
                    shuffle=False,
                    verbose=0,
                )
            except tf.errors.OpError:
                store.check()  # an error inside tf.data reaches us as TensorFlow's own
                raise

    def end_epoch(self, epoch: int, logs: dict[str, float]) -> None:
        """Validates the averaged weights, writes the checkpoint, and decides whether to stop."""
        self.average.copy_to(self.final)
        metrics = self._validate()
        score = _score(self.job.spec, metrics, epoch)
        now = replace(self.progress, epoch=epoch + 1)
        if score > now.best:
            now = replace(now, best=score, best_epoch=epoch + 1)
            if self.job.settings.early_stop:
                save(self.final, self.run.model)
        waited = now.epoch - now.best_epoch
        stops = self.job.settings.early_stop and waited >= self.job.settings.patience
        self.progress = replace(now, stopped=stops)
        save_checkpoint(self.run.checkpoint, self.state(), self.progress)
        row = {"kind": "epoch", "epoch": epoch + 1, "loss": logs.get("loss"), "metrics": metrics}
        results.append(self.run.results, [row])
        self.model.stop_training = stops
        note(_epoch_line(self.progress, self.job.settings, logs, metrics))

    def finish(self) -> keras.Model:
        """Saves and returns the model: the best validated one with early stopping, else the last."""
        if self.job.settings.early_stop and self.run.model.is_file():
            self.final.load_weights(self.run.model)
            return self.final
        self.average.copy_to(self.final)
        save(self.final, self.run.model)
        return self.final

    def _validate(self) -> dict[str, float]:
        if self.job.validation is None:
            return {}
        predictor = KerasPredictor(self.final, self.job.spec)
        pictures = spread(self.job.validation, self.job.settings.validation_pictures)
        return evaluate(predictor, pictures, title="validating")


class _EpochEnd(keras.callbacks.Callback):
    def __init__(self, session: _Session):
        super().__init__()
        self._session = session

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._session.end_epoch(epoch, logs or {})


class _Bar(keras.callbacks.Callback):
    """A progress bar over all steps; the first step, in which TensorFlow traces, says so."""

    def __init__(self, bar: Bar, steps: range):
        super().__init__()
        self._bar = bar
        self._task = bar.add_task("training: tracing", total=steps.stop, completed=steps.start)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        loss = (logs or {}).get("loss", float("nan"))
        self._bar.update(self._task, advance=1, description=f"training: loss {loss:.3f}")


def _epoch_line(
    at: Progress, settings: TrainSettings, logs: dict[str, float], metrics: dict[str, float]
) -> str:
    shown = [*list(metrics)[:3], *(name for name in list(metrics)[3:] if name == "mIoU")]
    figures = ", ".join(f"{name} {metrics[name]:.3f}" for name in shown)
    loss = f"loss {logs.get('loss', float('nan')):.3f}"
    ending = "; no improvement, stopping early" if at.stopped else ""
    return f"epoch {at.epoch}/{settings.epochs}: {loss}" + (f", {figures}" if figures else "") + ending
