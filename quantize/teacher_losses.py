"""Distillation losses: the distance of a student's outputs from a teacher's.

Every loss is 0 where the two agree, and its minimum is at the teacher. The inputs are output tensors of one
batch; this module does not depend on layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from keras import ops

from effkeras.detection.losses import BoxLoss

# The lower limit of probabilities: the gradient of the logarithm must stay finite in float32.
TINY = 1e-30
# A teacher sees an object in an anchor if a class has at least this probability.
SEEN = 0.3
# The exponent that reduces the weight of classes that agree (quality focal loss, arXiv:2006.04388: beta).
FOCUS = 2.0
CLASSES, BOXES = "class_logits", "box_deltas"

Tensor = Any
# The kind of an output: logits, probabilities that sum to 1, or an independent probability for each class.
Meaning = Literal["logits", "softmax", "sigmoid"]


@dataclass(frozen=True, eq=False, slots=True)
class Both:
    """The outputs of one batch by name: the teacher's, the student's, and the targets where they exist."""

    teacher: dict[str, Tensor]
    student: dict[str, Tensor]
    truth: dict[str, Tensor]


class Term(Protocol):
    """The distance of one output of the student from the teacher's."""

    def __call__(self, name: str, both: Both) -> Tensor:
        """The distance for the batch, a scalar."""
        ...


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Kullback-Leibler divergence of class probabilities, softened by a temperature (Hinton et al. 2015).

    For (B, ..., C) it is the mean over all axes but the last, times the squared temperature, which preserves
    the size of the gradient. With `single`, classes are independent, and their divergences are summed.
    """

    teacher: Meaning
    student: Meaning
    temperature: float
    single: bool = False

    def __call__(self, name: str, both: Both) -> Tensor:
        """The divergence of two outputs (B, ..., C), a scalar."""
        wanted, got = (
            as_logits(outputs[name], meaning) / self.temperature
            for outputs, meaning in ((both.teacher, self.teacher), (both.student, self.student))
        )
        divergence = _bernoulli(wanted, got) if self.single else _categorical(wanted, got)
        return self.temperature**2 * ops.mean(divergence)


def class_distance(name: str, both: Both) -> Tensor:
    """Cross-entropy of (B, N, C) class logits against the teacher's probabilities, less where they agree.

    `|teacher - student| ** 2` weights each class of an anchor, as in quality focal loss: background, most of
    the anchors, has little weight. The sum is divided by the number of anchors with objects plus one.
    """
    wanted, got = ops.sigmoid(_float(both.teacher[name])), _float(both.student[name])
    weight = ops.power(ops.abs(wanted - ops.sigmoid(got)), FOCUS)
    crossentropy = ops.relu(got) - got * wanted + ops.softplus(-ops.abs(got))
    return ops.sum(weight * crossentropy) / (ops.sum(_objects(both)) + 1.0)


def box_distance(name: str, both: Both) -> Tensor:
    """Huber loss of (B, N, 4) box deltas where the labels or the teacher see an object."""
    wanted = ops.concatenate([_float(both.teacher[name]), _objects(both)[..., None]], axis=-1)
    return BoxLoss()(wanted, both.student[name])


def as_logits(values: Tensor, meaning: Meaning) -> Tensor:
    """The logits of outputs; for a softmax up to a constant for each image."""
    values = _float(values)
    if meaning == "logits":
        return values
    logarithm = ops.log(ops.maximum(values, TINY))
    if meaning == "softmax":
        return logarithm
    return logarithm - ops.log(ops.maximum(1.0 - values, TINY))


def _categorical(wanted: Tensor, got: Tensor) -> Tensor:
    wanted, got = ops.log_softmax(wanted, axis=-1), ops.log_softmax(got, axis=-1)
    return ops.sum(ops.exp(wanted) * (wanted - got), axis=-1)


def _bernoulli(wanted: Tensor, got: Tensor) -> Tensor:
    chance = ops.sigmoid(wanted)
    yes = ops.softplus(-got) - ops.softplus(-wanted)
    no = ops.softplus(got) - ops.softplus(wanted)
    return ops.sum(chance * yes + (1.0 - chance) * no, axis=-1)


def _objects(both: Both) -> Tensor:
    """1 for anchors (B, N) in which the labels or the teacher see an object, else 0."""
    seen = ops.max(ops.sigmoid(_float(both.teacher[CLASSES])), axis=-1) >= SEEN
    labels = both.truth.get(CLASSES)
    return _float(seen if labels is None else ops.logical_or(seen, ops.cast(labels, "int32") >= 0))


def _float(values: Tensor) -> Tensor:
    return ops.cast(values, "float32")
