"""Fine-tunes a model from its own weights, after a compression step has changed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras

from effkeras.data.classes import matched
from effkeras.data.masks import classes_of
from effkeras.data.records import LabelledData
from effkeras.data.store import ImageStore
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.functional import deep_graphs
from effkeras.training.callbacks import Hook
from effkeras.training.session import Session, TrainingModels, TrainingPlan
from effkeras.training.settings import TrainSettings


def _itself(model: keras.Model) -> keras.Model:
    return model


@dataclass(frozen=True, eq=False, slots=True)
class TuneJob:
    """A fine-tuning: the model, the data, the settings and the output folder.

    `model` may be any Keras model with the outputs of `spec`. `hooks` take part in the training. `wrap`
    returns a model around its argument, with the same weights; `fit` then trains that model.
    """

    model: keras.Model
    spec: ModelSpec
    train: LabelledData
    validation: LabelledData | None
    settings: TrainSettings
    out: Path
    hooks: tuple[Hook, ...] = ()
    wrap: Callable[[keras.Model], keras.Model] = field(default=_itself)


def tune(job: TuneJob) -> keras.Model:
    """Starts or resumes fine-tuning, and returns a new model with averaged weights; `job.model` is unchanged.

    The folder `out` then holds the model and a checkpoint. The result is bit-equal whether or not the
    training was interrupted.

    Raises:
        EffkerasError: another training in the folder, data that do not fit, an unwritable folder.
    """
    keras.utils.set_random_seed(job.settings.seed)
    train = matched(job.train, job.spec)
    store = ImageStore(train, job.spec.input, classes_of(job.spec, train))
    plan = TrainingPlan(
        job.spec, job.validation, job.settings, max(1, len(store) // job.settings.batch), job.out
    )
    plain = copy_of(job.model)
    session = Session(plan, TrainingModels(plain, job.wrap(plain), copy_of(job.model)), job.hooks)
    session.run.check(job.spec, job.settings)
    session.run.start(job.spec, job.settings)
    if not session.is_finished():
        session.fit(store)
    return session.finish()


def copy_of(model: keras.Model) -> keras.Model:
    """A model with the same layers and weights that shares nothing with the original."""
    with deep_graphs():
        copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
