"""A training of a few seconds: building and tracing would cost more than the steps themselves.

So the steps of an epoch are one graph with a loop in it, traced once, and nothing leaves it but the loss.
Batch normalisation's momentum rises with the steps, as in `effkeras train`: with the usual 0.99 a network of
150 steps is measured with statistics that are still near their start, and looks like a coin toss however
well it has learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from effkeras.data.pipeline import BatchSpec, targets_of
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.layers.scheduled import set_progress
from effkeras.predictor import named_outputs
from effkeras.search.evaluation.pictures import Samples
from effkeras.training.callbacks import RisingMomentum
from effkeras.training.compiling import compile_for
from effkeras.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Course:
    """How a model is trained: its definition, the settings, and whether pictures are changed at random."""

    spec: ModelSpec
    settings: TrainSettings
    augmented: bool = False


class Fitting:
    """Trains one model epoch by epoch on pictures in memory.

    The learning rate rises and falls over all epochs of the settings, as in `effkeras train`. Batches are
    drawn from the settings' seed; with fewer pictures than a batch has, one batch is all of them.
    """

    def __init__(self, model: keras.Model, course: Course, samples: Samples):
        self._model, self._settings = model, course.settings
        self._samples = samples
        self._pictures = len(samples[0])
        self._batch = min(course.settings.batch, self._pictures)
        self._steps = self._pictures // self._batch
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
        set_progress(self._model, number / self._settings.epochs)
        random = np.random.default_rng([self._settings.seed, number])
        order = random.permutation(self._pictures)[: self._steps * self._batch]
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


class GraphPredictor:
    """Runs a Keras model for `effkeras.evaluate`: one graph for batches of any size."""

    def __init__(self, model: keras.Model, spec: ModelSpec):
        self.spec = spec
        self._model = model
        shape = tf.TensorSpec((None, *spec.input.size, 3), tf.float32)
        self._graph = tf.function(self._run, input_signature=[shape], autograph=False)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """See `effkeras.predictor.Predictor`."""
        return named_outputs(self._model, self._graph(tf.constant(pixels)))

    def _run(self, pixels: tf.Tensor) -> Any:
        return self._model(pixels, training=False)
