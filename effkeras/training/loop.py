"""The two trainings: `train` fills a run folder, `tune` goes on from the weights of a compressed model.

Both resume an interrupted training.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import keras

from effkeras.building.external import copy_backbone, own_part
from effkeras.building.models import build_spec
from effkeras.data.classes import matched, spec_for_data
from effkeras.data.masks import classes_of
from effkeras.data.records import LabelledData
from effkeras.data.splits import spread
from effkeras.data.store import ImageStore
from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.graph.functional import deep_graphs
from effkeras.inference.evaluate import Evaluation
from effkeras.inference.predictor import KerasPredictor
from effkeras.inference.threshold import best_threshold, threshold_of
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from effkeras.training.callbacks import Hook
from effkeras.training.compiling import auxiliary_targets, auxiliary_weight, with_auxiliary
from effkeras.training.defaults import Facts, completed, steps_of_epoch
from effkeras.training.fitted import Anchors, balanced_weights, class_counts, with_fitted_anchors
from effkeras.training.freezing import frozen_layers
from effkeras.training.progressive import stages_of
from effkeras.training.run import Run
from effkeras.training.session import Session, TrainingModels, TrainingPlan
from effkeras.training.settings import TrainSettings, settings_of
from effkeras.training.strategies import Request, Strategy, check_same_data
from effkeras.training.strategies.local import Single
from effkeras.weights.keras_files import load
from effkeras.weights.loading import load_weights, open_weights


@dataclass(frozen=True, slots=True)
class Job:
    """A training: the model's definition, the data, the settings and the run folder.

    `model` is only for a detector on a custom Keras model, which its definition alone cannot build: training
    starts from that model's weights, in a copy. `backbone` is a run folder or a .keras file that gives a
    detector the weights of its backbone. `anchors` "auto" fits a detector's anchors to the data where
    its heads start from random weights. With `accept_data`, a training goes on with data that have changed.
    `strategy` are the devices, see `open_strategy`.
    `memory` bounds the bytes of decoded images that are held; None is 2 GiB.
    """

    spec: ModelSpec
    train: LabelledData
    validation: LabelledData | None
    settings: TrainSettings
    out: Path
    weights: str | None = None
    model: keras.Model | None = None
    anchors: Anchors = "own"
    backbone: Path | None = None
    accept_data: bool = False
    strategy: Strategy = field(default_factory=lambda: Single(Request()))
    memory: int | None = None


def _start(job: Job) -> str:
    """The name of the weights that a training begins with; "" for those of a given model."""
    return job.weights or str(job.backbone or ("" if job.model else "none"))


def train(job: Job) -> keras.Model:
    """Starts or resumes a training, and returns the model with averaged weights.

    The run folder then holds the model, its definition and labels, a checkpoint and the history of
    validations; the model is that of the best validation so far, or without validation the last. With a
    length in epochs or steps, the weights are bit-equal whether or not the training was interrupted.

    Raises:
        EffkerasError: data or weights that do not fit, another run in the folder, an unwritable folder.
    """
    need_tensorflow("training")
    given = job
    job, before = job.strategy.from_chief(lambda: _checked(job), _written, partial(_read, job))
    check_same_data(job.train, job.strategy)
    run, is_chief = Run(job.out), job.strategy.is_chief
    keras.utils.set_random_seed(job.settings.seed)
    store = ImageStore(job.train, job.spec.input, classes_of(job.spec, job.train), job.memory)
    job = replace(job, settings=_with_defaults(job.settings, job.spec, store))
    session = session_of(job, steps_of_epoch(len(store), job.settings.batch))
    session.go_on(before)
    if is_chief:
        run.start(job.spec, job.settings)  # after all checks of the input
        run.keep_data(given.train, given.validation, _start(job))
    was_finished = session.is_finished()
    if was_finished:
        note(f"{run.folder} is already trained; a larger --epochs, --steps or --minutes trains it further")
    else:
        session.fit(store)
    model = session.finish()
    if is_chief and not (was_finished and run.threshold.is_file()):
        _keep_threshold(model, session.best, job)
    job.strategy.gathered(0)  # the processes end together
    return model


def _checked(job: Job) -> tuple[Job, TrainSettings]:
    """The job with what fits its data, weights and run, and the settings of the run before."""
    Run(job.out).check_data(job.train, job.validation, accept=job.accept_data)
    job = replace(job, spec=spec_for_data(job.spec, job.train))
    are_heads_new = job.model is None
    if job.weights:  # the weights determine the preprocessing
        opened = open_weights(job.spec, job.weights)
        are_heads_new = opened.of_backbone
        job = replace(job, spec=opened.spec)
    if job.anchors == "auto" and are_heads_new:
        job = replace(job, spec=with_fitted_anchors(job.spec, job.train, Run(job.out)))
    if job.validation is not None:
        job = replace(job, validation=matched(job.validation, job.spec))
    run = Run(job.out)
    before = run.kept_settings() or job.settings
    job = replace(job, settings=job.settings.like(before))
    _check(job)
    run.check(job.spec, job.settings)
    return job, before


def _written(checked: tuple[Job, TrainSettings]) -> str:
    """What the chief has found, as text for the other processes."""
    job, before = checked
    return json.dumps([job.spec.to_toml(), job.settings.to_table(), before.to_table()])


def _read(job: Job, text: str) -> tuple[Job, TrainSettings]:
    """The job of another process than the chief, which alone validates."""
    spec, settings, before = json.loads(text)
    where = "the chief's training"
    job = replace(job, spec=spec_from_table(tomllib.loads(spec), where), validation=None)
    return replace(job, settings=settings_of(settings, where)), settings_of(before, where)


def _keep_threshold(model: keras.Model, best: Evaluation | None, job: Job) -> None:
    """Writes a detector's best threshold on the images of the validation into the run folder.

    `best` is what the validation of this model found, if it was validated in this process.
    """
    Run(job.out).threshold.unlink(missing_ok=True)  # of an earlier part of the training
    if job.validation is None:
        return
    images = spread(job.validation, job.settings.validation_images)
    if best is None:
        found = best_threshold(KerasPredictor(model, job.spec), images)
    else:
        found = threshold_of(best.breakdowns(), images.split, len(images.records))
    if found is not None:
        found.save(job.out)
        note(f"the best threshold on {found.split} is {found.score:.4g}, with F1 {found.f1:.3f}")


def _with_defaults(settings: TrainSettings, spec: ModelSpec, store: ImageStore) -> TrainSettings:
    """The settings with what they leave open, which is said."""
    settings, choice = completed(settings, Facts(len(store), spec.is_detector, spec.detects))
    if choice:
        note(choice)
    return settings


def session_of(job: Job, steps_per_epoch: int) -> Session:
    """The models of a training, restored from the checkpoint if there is one."""
    weights = class_weights(job.train, job.spec, job.settings)
    plan = TrainingPlan(job.spec, job.validation, job.settings, steps_per_epoch, job.out, weights)
    precision = job.settings.mixed_precision
    dtype = "float32" if precision == "none" else f"mixed_{precision}"
    part = own_part(job.model, job.spec) if job.model is not None else None
    with job.strategy.scope():
        plain = build_spec(job.spec, dtype=dtype, part=part)
    if job.weights and not Run(job.out).checkpoint.is_file():
        load_weights(plain, job.weights)
    elif job.backbone and not Run(job.out).checkpoint.is_file():
        copy_backbone(load(job.backbone), plain, job.spec)
    final = partial(build_spec, job.spec, part=part)  # always float32, whatever the training precision
    frozen = frozen_layers(plain, job.spec, job.settings.freeze)
    if auxiliary_weight(job.spec):
        with job.strategy.scope():
            model = with_auxiliary(plain)
        models = TrainingModels(plain, model, final, targets=partial(auxiliary_targets, model), frozen=frozen)
    else:
        models = TrainingModels(plain, plain, final, partial(build_spec, dtype=dtype), frozen=frozen)
    if not job.settings.unfreeze_at:  # else the session freezes them for a while
        for layer in frozen:
            layer.trainable = False
    return job.strategy.session(plan, models)


def class_weights(data: LabelledData, spec: ModelSpec, settings: TrainSettings) -> tuple[float, ...]:
    """The factors of the losses for each class that the settings ask for; () for none."""
    if settings.class_weights == "none":
        return ()
    return balanced_weights(class_counts(data, spec.classes))


def _check(job: Job) -> None:
    stages_of(job.settings.progressive, job.spec, job.settings.augment)
    if job.settings.progressive and not isinstance(job.strategy, Single):
        raise EffkerasError("[progressive] trains on one device; leave out --devices and --workers")
    if job.validation is not None:
        classes_of(job.spec, job.validation)
    if job.settings.early_stop and job.validation is None:
        raise EffkerasError(f"early stopping watches the split val, which {job.train.root} does not have")
    if job.settings.box_loss != "huber" and not job.spec.detects:
        raise EffkerasError(f"box_loss is a setting of boxes, and {job.spec.name} finds none")
    if job.spec.is_detector and not job.spec.detects:
        _check_mask_alone(job)


def _check_mask_alone(job: Job) -> None:
    given = {
        "label_smoothing": job.settings.label_smoothing > 0,
        "class_weights": job.settings.class_weights != "none",
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise EffkerasError(f"{name} is not a mask's setting, and {job.spec.name} finds no boxes")


def _itself(model: keras.Model) -> keras.Model:
    return model


@dataclass(frozen=True, eq=False, slots=True)
class TuneJob:
    """A fine-tuning: the model, the data, the settings and the output folder.

    `model` may be any Keras model with the outputs of `spec`. `hooks` take part in the training. `wrap`
    returns a model around its argument, with the same weights; `fit` then trains that model. `store` holds
    the training images in the classes of `spec`; None if they are not opened yet.
    """

    model: keras.Model
    spec: ModelSpec
    train: LabelledData
    validation: LabelledData | None
    settings: TrainSettings
    out: Path
    hooks: tuple[Hook, ...] = ()
    wrap: Callable[[keras.Model], keras.Model] = field(default=_itself)
    store: ImageStore | None = None

    def with_store(self) -> TuneJob:
        """The fine-tuning with its training images opened."""
        if self.store is not None:
            return self
        train = matched(self.train, self.spec)
        return replace(self, store=ImageStore(train, self.spec.input, classes_of(self.spec, train)))


def tune(job: TuneJob) -> keras.Model:
    """Starts or resumes fine-tuning, and returns a new model with averaged weights; `job.model` is unchanged.

    The folder `out` then holds the model and a checkpoint. The result is bit-equal whether or not the
    training was interrupted.

    Raises:
        EffkerasError: another training in the folder, data that do not fit, an unwritable folder.
    """
    need_tensorflow("training")
    keras.utils.set_random_seed(job.settings.seed)
    train, store = matched(job.train, job.spec), job.with_store().store
    assert store is not None
    at_own_size = replace(job.settings, progressive=None)  # which is where the model is used
    settings = _with_defaults(at_own_size, job.spec, store)
    plan = TrainingPlan(
        job.spec,
        job.validation,
        settings,
        steps_of_epoch(len(store), settings.batch),
        job.out,
        class_weights(train, job.spec, settings),
        keeps_best=settings.early_stop,  # steps such as pruning are complete only at the end
    )
    plain = copy_of(job.model)
    session = Session(plan, TrainingModels(plain, job.wrap(plain), partial(copy_of, job.model)), job.hooks)
    session.run.check(job.spec, settings)
    session.go_on(session.run.kept_settings() or settings)
    session.run.start(job.spec, settings)
    if not session.is_finished():
        session.fit(store)
    made = session.finish()
    if settings.early_stop:
        best, most = session.progress.best_step, session.pace.total(session.progress.step)
        note(f"tuned for {session.progress.step:,} of at most {most:,} steps, the best after {best:,}")
    return made


def copy_of(model: keras.Model) -> keras.Model:
    """A model with the same layers and weights that shares nothing with the original."""
    with deep_graphs():
        copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
