"""Distillation: training towards a teacher's outputs (Hinton, Vinyals and Dean 2015, arXiv:1503.02531).

Every step that costs accuracy can train this way, with the uncompressed model as teacher: `teaching` returns
the function that wraps the model for training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from effkeras.data.records import LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.functional import check_functional, deep_graphs, is_functional, maker, output_structure
from effkeras.graph.rewrite import TINY, check_finite
from effkeras.layers.normalize import spec_of
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from effkeras.training.loop import TuneJob, tune
from quantize.post_training.calibration import calibration_pixels, representative
from quantize.report import Compressed, LayerReport, StepReport
from quantize.specs import DistillSpec
from quantize.splits import StepTraining
from quantize.teacher_losses import (
    BOXES,
    CLASSES,
    Both,
    Likelihood,
    Meaning,
    Term,
    box_distance,
    class_distance,
)

STEP = "distill"
ERROR_IS = "distance from the teacher / std of the teacher's output"
PROBED = 32

Tensor = Any


def distill(
    student: keras.Model, teacher: keras.Model, training: StepTraining, how: DistillSpec | None = None
) -> Compressed:
    """Trains a student towards labels and a teacher's outputs.

    Args:
        student: any functional Keras model; the result is a copy with averaged weights.
        teacher: a model with the same input and outputs; its layers may differ.
        training: images, training settings and folder.
        how: the teacher's share of the loss, and the temperature.

    Returns:
        The trained copy, and a report with an entry per output.

    Raises:
        EffkerasError: the outputs do not match, weights are NaN or infinite, or the data does not fit.
    """
    how = how or DistillSpec()
    wrap = teaching(teacher, how)
    terms_for(student, teacher, how.temperature)  # before training, raises if outputs do not match
    check_finite(student)
    spec = training.spec or spec_of(student)
    train, validation = training.train, training.validation
    made = tune(TuneJob(student, spec, train, validation, training.settings, training.out, wrap=wrap))
    pixels = probe(validation or train, spec)
    before, report = _distances(student, teacher, pixels), approach(made, teacher, pixels, how)
    after = {one.name: one.error or 0.0 for one in report.layers}
    note(f"{STEP}: distance from the teacher {_mean(before):.3g} -> {_mean(after):.3g}")
    figures = {f"{name} before": distance for name, distance in before.items()}
    return Compressed(made, replace(report, figures={**report.figures, **figures}))


def approach(student: keras.Model, teacher: keras.Model, pixels: np.ndarray, how: DistillSpec) -> StepReport:
    """The distance of each of a student's outputs from its teacher's on images, float32 (B, H, W, 3)."""
    terms = terms_for(student, teacher, how.temperature)
    apart = _distances(student, teacher, pixels)
    layers = [LayerReport(name, "output", "done", _words(terms[name]), apart[name]) for name in terms]
    return StepReport(STEP, tuple(layers), ERROR_IS, {"weight": how.weight, "temperature": how.temperature})


def teaching(teacher: keras.Model, how: DistillSpec) -> Callable[[keras.Model], keras.Model]:
    """Returns the function that wraps a student for distillation: `TuneJob(..., wrap=...)`.

    Raises EffkerasError when a setting is out of range or the teacher's weights are NaN or infinite. The
    returned function raises it when the student's outputs do not match the teacher's.
    """
    check_settings(how)
    check_functional(teacher)
    check_finite(teacher)
    return lambda student: DistilledModel(student, teacher, how)


def check_settings(how: DistillSpec) -> None:
    """Raises EffkerasError unless the teacher's share is in 0..1 and the temperature is above 0."""
    if not 0 <= how.weight <= 1:
        raise EffkerasError(f"{STEP}: weight must lie between 0 and 1, not {how.weight}")
    if not (how.temperature > 0 and math.isfinite(how.temperature)):
        raise EffkerasError(f"{STEP}: temperature must be above 0, not {how.temperature}")


class DistilledModel(keras.Model):
    """A model with the student's layers, compiled and fitted like the student, and a teacher in the loss.

    `loss = (1 - weight) * compiled loss + weight * distance from the teacher`. With weight 0, and in
    `evaluate`, it is the compiled loss only. The teacher runs in inference mode and gets no gradient. It is
    not part of this model's layers, weights or saved files. After training, use the student.

    Args:
        student: the model to train.
        teacher: the model it learns from.
        how: the teacher's share of the loss, and the temperature.
    """

    def __init__(self, student: keras.Model, teacher: keras.Model, how: DistillSpec):
        terms = terms_for(student, teacher, how.temperature)
        with deep_graphs():
            super().__init__(student.inputs[0], output_structure(student), name=student.name)
        # Inside a dataclass, Keras does not track the teacher as a layer of this model.
        self._teacher = _Teacher(teacher, terms, how.weight)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The loss of one batch."""
        plain = super().compute_loss(x, y, y_pred, sample_weight, training)
        share = self._teacher.share
        if share == 0 or not training:
            return plain
        return (1 - share) * plain + share * self._teacher.distance(x, y, y_pred)


@dataclass(frozen=True, eq=False, slots=True)
class _Teacher:
    """The teacher, and how each output is compared with the teacher's."""

    teacher: keras.Model
    terms: dict[str, Term]
    share: float

    def distance(self, x: Any, y: Any, y_pred: Any) -> Tensor:
        wanted = keras.tree.map_structure(ops.stop_gradient, self.teacher(x, training=False))
        names = list(self.terms)
        both = Both(_by_name(wanted, names), _by_name(y_pred, names), y if isinstance(y, dict) else {})
        return sum(term(name, both) for name, term in self.terms.items())


def terms_for(student: keras.Model, teacher: keras.Model, temperature: float) -> dict[str, Term]:
    """How each of a student's outputs is compared with a teacher's, by the student's name for it.

    Raises EffkerasError when inputs or outputs do not match.
    """
    for model in (student, teacher):
        check_functional(model)
    _check_same("input", student.inputs[0].shape, teacher.inputs[0].shape)
    ours, theirs = outputs_of(student), outputs_of(teacher)
    if len(ours) == len(theirs) == 1:
        theirs = dict(zip(ours, theirs.values(), strict=True))
    if set(ours) != set(theirs):
        raise EffkerasError(
            f"{STEP}: the student outputs {', '.join(sorted(ours))}, the teacher {', '.join(sorted(theirs))}"
        )
    for name in ours:
        _check_same(name, ours[name].shape, theirs[name].shape)
    return {name: _term(name, (theirs[name], ours[name]), temperature) for name in ours}


def outputs_of(model: keras.Model) -> dict[str, Any]:
    """A model's outputs by name."""
    structure = output_structure(model)
    if isinstance(structure, dict):
        return dict(structure)
    return dict(zip(model.output_names, model.outputs, strict=True))


def meaning(tensor: Any) -> Meaning:
    """Whether an output is a softmax, a sigmoid or logits, by the layer that computes it."""
    layer = maker(tensor)
    if is_functional(layer):
        return meaning(layer.outputs[tensor._keras_history.tensor_index])
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "") if function else type(layer).__name__.lower()
    return name if name in ("softmax", "sigmoid") else "logits"  # type: ignore[return-value]


def _term(name: str, outputs: tuple[Any, Any], temperature: float) -> Term:
    if name in (CLASSES, BOXES):
        return class_distance if name == CLASSES else box_distance
    theirs, ours = map(meaning, outputs)
    if {theirs, ours} == {"softmax", "sigmoid"}:
        raise EffkerasError(
            f"{STEP}: the output {name!r} of one model is a softmax, of the other a sigmoid: "
            "their outputs mean different things"
        )
    single = "sigmoid" in (theirs, ours) or outputs[0].shape[-1] == 1
    return Likelihood(theirs, ours, temperature, single)


def _check_same(what: str, ours: tuple[int | None, ...], theirs: tuple[int | None, ...]) -> None:
    if tuple(ours[1:]) != tuple(theirs[1:]):
        raise EffkerasError(
            f"{STEP}: the student's {what} is {_shape(ours)} and the teacher's {_shape(theirs)}; "
            "both need the same image size and classes"
        )


def _shape(shape: tuple[int | None, ...]) -> str:
    return " x ".join(str(side or "?") for side in shape[1:])


def _by_name(outputs: Any, names: list[str]) -> dict[str, Tensor]:
    if isinstance(outputs, dict):
        return outputs
    return dict(zip(names, keras.tree.flatten(outputs), strict=True))


def _words(term: Term) -> str:
    if isinstance(term, Likelihood):
        return (
            "divergence of each class's probability"
            if term.single
            else "divergence of the classes' probabilities"
        )
    return {
        class_distance: "quality focal loss against the teacher's probabilities",
        box_distance: "Huber loss where labels or teacher see an object",
    }[term]


def probe(data: LabelledData, spec: ModelSpec, seed: int = 0) -> np.ndarray:
    """A few images of all classes to compare outputs on, as a model takes them: float32 (B, H, W, 3)."""
    records = representative(data, PROBED, seed)
    pixels = calibration_pixels(records, spec.input, skip_bad=data.options.skip_bad)
    return np.concatenate(list(pixels))


def _distances(model: keras.Model, teacher: keras.Model, pixels: np.ndarray) -> dict[str, float]:
    names = list(outputs_of(model))
    got, wanted = (_by_name(one.predict(pixels, batch_size=8, verbose=0), names) for one in (model, teacher))
    return {name: float(np.std(got[name] - wanted[name]) / (np.std(wanted[name]) + TINY)) for name in names}


def _mean(distances: dict[str, float]) -> float:
    return sum(distances.values()) / len(distances)
