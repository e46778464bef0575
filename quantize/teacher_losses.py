"""How far a student's outputs are from a teacher's, for each kind of output.

Every term is 0 where the two agree, and its gradient points at the teacher. What the models put out are
tensors of one batch; nothing here knows layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from keras import ops

from effkeras.detection.losses import BoxLoss

# Probabilities below count as this: the logarithm's gradient has to stay finite in float32.
TINY = 1e-30
# A teacher sees something in an anchor when it gives a class at least this chance.
SEEN = 0.3
# How much class logits that agree are discounted (quality focal loss, arXiv:2006.04388: beta).
FOCUS = 2.0
CLASSES, BOXES = "class_logits", "box_deltas"

Tensor = Any
# What an output's numbers are: logits, probabilities that sum to 1, or a chance for each class.
Meaning = Literal["logits", "softmax", "sigmoid"]


@dataclass(frozen=True, eq=False, slots=True)
class Both:
    """One batch's outputs by name: the teacher's, the student's, and the targets of those that have some."""

    teacher: dict[str, Tensor]
    student: dict[str, Tensor]
    truth: dict[str, Tensor]


class Term(Protocol):
    """The distance of one output of the student from the teacher's."""

    def __call__(self, name: str, both: Both) -> Tensor:
        """One number for the batch."""
        ...


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Kullback-Leibler divergence of class probabilities, softened (Hinton et al. 2015).

    Of (B, ..., C) it is the mean over all but the last axis, times the temperature's square, which keeps the
    gradient's size. With `single` each class is a yes or no of its own, and theirs are added up.
    """

    teacher: Meaning
    student: Meaning
    temperature: float
    single: bool = False

    def __call__(self, name: str, both: Both) -> Tensor:
        """(B, ..., C) of both to a number."""
        wanted, got = (
            as_logits(outputs[name], meaning) / self.temperature
            for outputs, meaning in ((both.teacher, self.teacher), (both.student, self.student))
        )
        divergence = _bernoulli(wanted, got) if self.single else _categorical(wanted, got)
        return self.temperature**2 * ops.mean(divergence)


def class_distance(name: str, both: Both) -> Tensor:
    """Cross-entropy of (B, N, C) class logits against the teacher's chances, less where they agree.

    `|teacher - student| ** 2` weighs each anchor's class, as in quality focal loss: background, of which
    there is most, counts little. The sum is divided by the objects' anchors plus one.
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
    """Numbers whose softmax (or sigmoid) the outputs are; of a softmax up to a constant for each image."""
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
