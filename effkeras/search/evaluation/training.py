"""Evaluation by a short training of each candidate.

The steps of an epoch are one graph with a loop, traced once, that returns only the loss. Otherwise, building
and tracing would take longer than the steps of such a training. The momentum of batch normalization
rises with the steps, as in `effkeras train`: with the usual 0.99, the statistics after 150 steps are still
near their initial values, so the accuracy stays at chance level however well the network has learned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from effkeras.building.models import build_spec
from effkeras.data.classes import spec_for_data
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.evaluate import evaluate_batches, headlines
from effkeras.inference.predictor import KerasPredictor, Predictor
from effkeras.layers.drop import set_progress
from effkeras.search.evaluation.costs import cost_of
from effkeras.search.evaluation.images import Samples, SearchImages
from effkeras.search.evaluation.settings import Candidate, EvaluationSettings, Outcome, Report
from effkeras.search.genomes import Genome
from effkeras.support.errors import EffkerasError
from effkeras.training.callbacks import RisingMomentum
from effkeras.training.compiling import compile_for
from effkeras.training.pipeline import BatchSpec, targets_of
from effkeras.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How a model is trained: its definition, the settings, and whether images are augmented."""

    spec: ModelSpec
    settings: TrainSettings
    augmented: bool = False


class ShortFit:
    """Trains one model epoch by epoch on images in memory.

    The learning rate rises and falls over all epochs of the settings, as in `effkeras train`. The settings'
    seed determines the batches. With fewer images than the batch size, one batch holds all images.
    """

    def __init__(self, model: keras.Model, course: FitPlan, samples: Samples):
        self._model, self._settings = model, course.settings
        self._samples = samples
        self._images = len(samples[0])
        self._batch = min(course.settings.batch, self._images)
        self._steps = self._images // self._batch
        augment = course.settings.augment if course.augmented else None
        self._targets = targets_of(course.spec, BatchSpec(self._batch, course.settings.seed, augment))
        self._momentum = RisingMomentum(model)
        compile_for(model, course.spec, course.settings, self._steps)
        model.optimizer.build(model.trainable_variables)
        self._graph: Callable[..., Any] = tf.function(self._run, autograph=False)

    def epoch(self, number: int) -> float:
        """Trains epoch `number`, from 0, and returns its mean loss.

        Raises EffkerasError when the training diverged.
        """
        set_progress(self._model, number / self._settings.total_steps(1))
        random = np.random.default_rng([self._settings.seed, number])
        order = random.permutation(self._images)[: self._steps * self._batch]
        seeds = random.integers(0, 2**31 - 1, (self._steps, self._batch, 2))
        shape = (self._steps, self._batch)
        loss = float(self._graph(tf.constant(order.reshape(shape)), tf.constant(seeds, tf.int32)))
        if not math.isfinite(loss):
            raise EffkerasError(f"the training diverged in epoch {number + 1}: its loss is {loss}")
        return loss

    def _run(self, order: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        def body(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = [tf.gather(values, order[step]) for values in self._samples]
            return step + 1, total + self._step(*self._targets(*batch, seeds[step]))

        start = (tf.constant(0), tf.constant(0.0))
        _, total = tf.while_loop(lambda step, _: step < self._steps, body, start, parallel_iterations=1)
        return total / self._steps

    def _step(self, pixels: tf.Tensor, targets: Any) -> tf.Tensor:
        model = self._model
        self._momentum.set(model.optimizer.iterations)
        with tf.GradientTape() as tape:
            outputs = model(pixels, training=True)
            loss = model.compute_loss(x=pixels, y=targets, y_pred=outputs, training=True)
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, variables), variables)
        return tf.cast(loss, tf.float32)


class Definitions(Protocol):
    """The part of a space that an evaluator uses: the definition of each candidate."""

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition, with the classes and the size of the space."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class ShortTraining:
    """Trains each candidate for a few epochs and measures it on the validation split after each epoch.

    The accuracy is the best of all epochs: top-1 of a classifier, AP of a detector, the mean over the heads
    of a model with several. The weights are not kept; train the best definition again in full.
    """

    space: Definitions
    images: SearchImages
    settings: EvaluationSettings

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """Trains one candidate; equal candidates give equal accuracies.

        Raises EffkerasError for a candidate that cannot be built or trained.
        """
        start = time.perf_counter()
        spec = self._definition(candidate)
        try:
            course = self._train(spec, candidate.seed, report)
        finally:
            keras.backend.clear_session()
        metrics = {"epochs": float(len(course)), "seconds": time.perf_counter() - start}
        return Outcome(max(course), {**metrics, "last_accuracy": course[-1]})

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """The costs of a candidate, without training; raises EffkerasError if they cannot be measured."""
        return cost_of(self._definition(candidate), self.settings.costs, self.settings.artifact)

    def _definition(self, candidate: Candidate) -> ModelSpec:
        return spec_for_data(self.space.spec(candidate.genome), self.images.splits.train)

    def _train(self, spec: ModelSpec, seed: int, report: Report) -> list[float]:
        """The accuracy after each epoch."""
        keras.utils.set_random_seed(seed)
        model = build_spec(spec)
        course = FitPlan(spec, self.settings.training(seed), self.settings.augment is not None)
        fitting = ShortFit(model, course, self.images.training(spec))
        predictor = KerasPredictor(model, spec)
        found: list[float] = []
        for number in range(self.settings.epochs):
            fitting.epoch(number)
            found.append(accuracy(predictor, self.images))
            report(number + 1, found[-1])
            if self._is_over(found):
                break
        return found

    def _is_over(self, found: list[float]) -> bool:
        since_best = len(found) - 1 - found.index(max(found))
        return 0 < self.settings.patience <= since_best


def accuracy(predictor: Predictor, images: SearchImages) -> float:
    """The main metric of a model on the validation split, 0..1; the mean of them if it has several."""
    spec = predictor.spec
    metrics = evaluate_batches(predictor, images.splits.validation, images.validation(spec))
    judged = [metrics[name] for name in headlines(spec)]
    return sum(judged) / len(judged)
