"""Optimizers and learning rate schedules.

The AdamW here updates many variables at once: it computes like Keras's, but on a few long vectors. That takes
a tenth of the operators, all of which TensorFlow traces before the first step and launches in each step. The
first step comes two fifths sooner. Keras's other optimizers are its own.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from effkeras.support.backend import replicas, sum_over_replicas


@keras.saving.register_keras_serializable(package="effkeras")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `peak` over `warmup` steps, then falls to 0 at `total` steps."""

    def __init__(self, peak: float, warmup: int, total: int):
        self.peak = peak
        self.warmup = warmup
        self.total = total

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(self.warmup, 1)
        progress = ops.clip((step - self.warmup) / max(self.total - self.warmup, 1), 0.0, 1.0)
        falling = 0.5 * (1 + ops.cos(math.pi * progress))
        return self.peak * ops.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """The schedule's constants."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


@keras.saving.register_keras_serializable(package="effkeras")
class WarmupExponential(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `peak` over `warmup` steps, then falls by `factor` again and again.

    The `decays` falls are spread evenly over all of `total` steps, also those of the rise, as in the authors'
    code of EfficientNet and NASNet: the rate starts to fall from the peak, not from where the rise ends.
    """

    def __init__(self, peak: float, warmup: int, total: int, factor: float, decays: float):
        self.peak = peak
        self.warmup = warmup
        self.total = total
        self.factor = factor
        self.decays = decays

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(self.warmup, 1)
        falling = _decayed(ops.minimum(step / max(self.total, 1), 1.0), self.factor, self.decays)
        return self.peak * ops.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """The schedule's constants."""
        own = {"factor": self.factor, "decays": self.decays}
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total, **own}


def _decayed(share: Any, factor: float, decays: float) -> Any:
    """The share of the peak after a share of the training."""
    return factor ** ops.floor(share * decays)


@keras.saving.register_keras_serializable(package="effkeras")
class TimedCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Falls from `peak` to 0 with the share of the time that is used, which `set_share` sets before a step.

    It rises first, over `warmup` steps or a tenth of the time, whichever is shorter.
    """

    def __init__(self, peak: float, warmup: int):
        self.peak = peak
        self.warmup = warmup
        self._share = tf.Variable(0.0, trainable=False)

    def set_share(self, share: float) -> None:
        """Sets the share of the time that is used, 0 to 1."""
        self._share.assign(share)

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step."""
        share = tf.convert_to_tensor(self._share)
        rising = ops.maximum((ops.cast(step, "float32") + 1) / max(self.warmup, 1), share * 10)
        return self.peak * ops.minimum(rising, 1.0) * self._falling(share)

    def _falling(self, share: Any) -> Any:
        """The share of the peak after a share of the time."""
        return 0.5 * (1 + ops.cos(math.pi * share))

    def get_config(self) -> dict[str, Any]:
        """The schedule's constants."""
        return {"peak": self.peak, "warmup": self.warmup}


@keras.saving.register_keras_serializable(package="effkeras")
class TimedExponential(TimedCosine):
    """`WarmupExponential` by the share of the time that is used, see `TimedCosine`."""

    def __init__(self, peak: float, warmup: int, factor: float, decays: float):
        super().__init__(peak, warmup)
        self.factor = factor
        self.decays = decays

    def _falling(self, share: Any) -> Any:
        return _decayed(share, self.factor, self.decays)

    def get_config(self) -> dict[str, Any]:
        """The schedule's constants."""
        return {**super().get_config(), "factor": self.factor, "decays": self.decays}


Schedule = WarmupCosine | WarmupExponential | TimedCosine


# Most values in a vector of several variables: longer ones would double the memory of large models.
MOST = 2**22


@dataclass(frozen=True, eq=False, slots=True)
class Vector:
    """Variables that are handled as one float32 vector; `places` are their indices among all variables."""

    places: tuple[int, ...]
    variables: tuple[Any, ...]

    @property
    def sizes(self) -> list[int]:
        """The number of values of each variable."""
        return [_size(one) for one in self.variables]

    def values(self) -> tf.Tensor:
        """All values (n,)."""
        return self.flat([tf.convert_to_tensor(_stored(variable)) for variable in self.variables])

    def flat(self, tensors: Sequence[Any]) -> tf.Tensor:
        """Concatenates one tensor per variable into one vector (n,); None stands for zeros."""
        whole = tf.constant([-1])
        rows = [
            tf.zeros(size) if tensor is None else tf.cast(_shaped(tensor, whole, 1), tf.float32)
            for tensor, size in zip(tensors, self.sizes, strict=True)
        ]
        return tf.concat(rows, axis=0)

    def assign(self, values: tf.Tensor) -> None:
        """Assigns the values (n,) to the variables."""
        for variable, row in zip(self.variables, tf.split(values, self.sizes), strict=True):
            stored = _stored(variable)
            value = _shaped(row, variable.shape, len(variable.shape))
            stored.assign(tf.cast(value, stored.dtype), read_value=False)


def _stored(variable: Any) -> Any:
    """TensorFlow's variable in one of Keras, whose own methods cost a trace twice the time."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _shaped(tensor: Any, shape: Any, rank: int) -> tf.Tensor:
    """Reshapes a tensor unless it has the rank of `shape`: most weights are vectors already."""
    return tensor if tensor.shape.rank == rank else tf.reshape(tensor, shape)


def vectors_of(variables: Sequence[Any], alike: Callable[[Any], Any] = lambda _: True) -> Iterator[Vector]:
    """Packs all variables, Keras's or TensorFlow's, into vectors; one vector has one value of `alike`."""
    for kind in dict.fromkeys(map(alike, variables)):
        places = [place for place, one in enumerate(variables) if alike(one) == kind]
        for chosen in _packed(places, variables):
            yield Vector(chosen, tuple(variables[place] for place in chosen))


def _packed(places: Sequence[int], variables: Sequence[Any]) -> Iterator[tuple[int, ...]]:
    chosen: list[int] = []
    total = 0
    for place in places:
        size = _size(variables[place])
        if chosen and total + size > MOST:
            yield tuple(chosen)
            chosen, total = [], 0
        chosen.append(place)
        total += size
    if chosen:
        yield tuple(chosen)


def _size(variable: Any) -> int:
    return int(tf.TensorShape(variable.shape).num_elements())


# Names of weights without weight decay.
UNDECAYED = ("bias", "gamma", "beta", "w0", "w1", "w2")
_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-7  # Keras's defaults


class UpdateRule(NamedTuple):
    """How a variable is updated: the factor of its learning rate; whether the first steps leave it out."""

    rate: float = 1.0
    late: bool = False


Rules = Mapping[str, UpdateRule]
_NO_RULES: Rules = MappingProxyType({})


def _rule(rules: Rules, variable: Any) -> UpdateRule:
    return rules.get(getattr(variable, "path", variable.name), UpdateRule())


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """Variables updated together; `moments` are the moving averages of their gradients and the squares.

    `counts` are the updates of each value, or of the vector, if some steps leave it out; `total` is the sum
    of gradients since the last update, where an update takes several steps.
    """

    vector: Vector
    decay: float
    rule: UpdateRule
    moments: tuple[Any, Any]
    counts: Any = None
    total: Any = None


@keras.saving.register_keras_serializable(package="effkeras")
class FlatAdamW(keras.optimizers.Optimizer):
    """`keras.optimizers.AdamW` for variables that are always updated together; a None gradient means 0.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: relative to the learning rate; not applied to biases, batch normalisation's weights
            and BiFPN's fusion weights.
        global_clipnorm: the largest norm of the gradient over all variables; larger ones are scaled down.
        lazy: leave values without a gradient unchanged, including their moments and step counts. If each
            step uses only a part of the weights, Adam would otherwise keep moving the others, and divide
            rare gradients by an average of mostly zeros: steps thirty times too long.
        accumulate: steps whose gradients are averaged for one update. The schedule counts all steps.
        rules: by the path of a variable, how it is updated if unlike the others. The late variables may be
            missing in the first steps, all of them; their first update is then like the first of all.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float = 0.0,
        global_clipnorm: float | None = None,
        *,
        lazy: bool = False,
        accumulate: int = 1,
        rules: Rules = _NO_RULES,
        name: str = "flat_adamw",
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, global_clipnorm=global_clipnorm, name=name)
        self.lazy = lazy
        self.accumulate = accumulate
        self.rules = MappingProxyType({path: UpdateRule(*rule) for path, rule in rules.items()})
        self._parts: list[_Part] = []

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the moments, once."""
        if self.built:
            return
        super().build(list(variables))
        self._parts = [self._part(vector) for vector in vectors_of(variables, self._kind)]

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step. Raises ValueError unless the variables are those of `build`, in the same order."""
        parts = self._parts
        if trainable_variables is not None:
            self.build(trainable_variables)
            grads, parts = self._matched(grads, trainable_variables)
        gradients = [part.vector.flat([grads[place] for place in part.vector.places]) for part in parts]
        gradients = sum_over_replicas(gradients)
        if self.accumulate == 1:
            self._update(parts, gradients)
        else:
            is_last = (self._iterations + 1) % self.accumulate == 0
            tf.cond(
                is_last, lambda: self._update_by_all(parts, gradients), lambda: _collect(parts, gradients)
            )
        self._iterations.assign_add(1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        kept = ("name", "learning_rate", "weight_decay", "global_clipnorm")
        whole = super().get_config()
        own = {"lazy": self.lazy, "accumulate": self.accumulate}
        return {**{name: whole[name] for name in kept}, **own, "rules": dict(self.rules)}

    def _kind(self, variable: Any) -> tuple[bool, UpdateRule]:
        return is_decayed(variable), _rule(self.rules, variable)

    def _part(self, vector: Vector) -> _Part:
        size = (sum(vector.sizes),)
        is_kept, rule = self._kind(vector.variables[0])
        shapes: dict[str, tuple[int, ...]] = {"first": size, "second": size}
        if self.lazy or rule.late:
            shapes["count"] = size if self.lazy else ()
        if self.accumulate > 1:
            shapes["total"] = size
        made = {name: self.add_variable(shape, name=name).value for name, shape in shapes.items()}
        decay = float(self.weight_decay or 0.0) if is_kept else 0.0
        moments = (made["first"], made["second"])
        return _Part(vector, decay, rule, moments, made.get("count"), made.get("total"))

    def _matched(self, grads: Sequence[Any], variables: Sequence[Any]) -> tuple[list[Any], list[_Part]]:
        """A gradient for each variable of `build`, and the parts that this step trains."""
        known = self._trainable_variables
        given = {id(variable): gradient for variable, gradient in zip(variables, grads, strict=True)}
        wanted = [variable for variable in known if id(variable) in given]
        if len(wanted) != len(variables) or any(map(operator.is_not, wanted, variables)):
            raise ValueError(
                f"{self.name} updates the variables it was built for, in that order, and no others"
            )
        parts = [part for part in self._parts if id(known[part.vector.places[0]]) in given]
        if sum(len(part.vector.places) for part in parts) != len(variables) or any(
            not part.rule.late for part in self._parts if part not in parts
        ):
            raise ValueError(f"{self.name} updates the variables it was built for, and all of them")
        return [given.get(id(variable)) for variable in known], parts

    def _update_by_all(self, parts: Sequence[_Part], gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        means = [
            (part.total + gradient) / self.accumulate for part, gradient in zip(parts, gradients, strict=True)
        ]
        self._update(parts, means)
        for part in parts:
            part.total.assign(tf.zeros_like(part.total))
        return tf.constant(True)

    def _update(self, parts: Sequence[_Part], gradients: Sequence[tf.Tensor]) -> None:
        scale = self._scale(gradients)
        rate = tf.cast(self.learning_rate, tf.float32)
        for part, gradient in zip(parts, gradients, strict=True):
            self._step(part, gradient * scale, rate if part.rule.rate == 1 else rate * part.rule.rate)
            _constrain(part.vector.variables)

    def _scale(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        if not self.global_clipnorm:
            return tf.constant(1.0)
        length = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(one)) for one in gradients]))
        return self.global_clipnorm / tf.maximum(length, self.global_clipnorm)

    def _step(self, part: _Part, gradient: tf.Tensor, rate: tf.Tensor) -> None:
        moves, steps = self._moves(part, gradient)
        first, second = part.moments
        mean = first.assign_add((gradient - first) * (1 - _FIRST) * moves)
        square = second.assign_add((tf.square(gradient) - second) * (1 - _SECOND) * moves)
        change = mean * tf.sqrt(1 - _SECOND**steps) / (1 - _FIRST**steps) / (tf.sqrt(square) + _EPSILON)
        values = part.vector.values()
        if part.decay:
            change += part.decay * values
        part.vector.assign(values - rate * moves * change)

    def _moves(self, part: _Part, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """1 for each value updated in this step and 0 for others, and each value's step count."""
        if part.counts is None:
            return tf.constant(1.0), tf.cast(self._iterations // self.accumulate, tf.float32) + 1
        moves = tf.cast(gradient != 0, tf.float32) if self.lazy else tf.constant(1.0)
        return moves, tf.maximum(part.counts.assign_add(moves), 1.0)


def _collect(parts: Sequence[_Part], gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    for part, gradient in zip(parts, gradients, strict=True):
        part.total.assign_add(gradient)
    return tf.constant(False)


def is_decayed(variable: Any) -> bool:
    """Whether weight decay applies to a variable."""
    return variable.name not in UNDECAYED


def _constrain(variables: Sequence[Any]) -> None:
    """Applies constraints of variables, which custom models may have."""
    for variable in variables:
        if getattr(variable, "constraint", None) is not None:
            variable.assign(variable.constraint(variable))


class _ByRule:
    """Adds to one of Keras's optimizers rules for variables, and `FlatAdamW`'s choice of decayed ones.

    Where several devices train, each updates its own copy of the variables by the sum of all gradients. Keras
    would clip the gradients before they are summed.
    """

    rules: Rules
    decay: float
    l2: float

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step, with the sum of the gradients over all replicas."""
        if replicas() > 1:
            there = [gradient for gradient in grads if gradient is not None]
            summed = iter(sum_over_replicas(there))
            grads = [gradient if gradient is None else next(summed) for gradient in grads]
        super().apply(grads, trainable_variables)  # type: ignore[misc]

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        if replicas() == 1:
            super()._backend_update_step(grads, trainable_variables, learning_rate)  # type: ignore[misc]
            return
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            own = variable.value if isinstance(variable, keras.Variable) else variable
            self.update_step(gradient, own, learning_rate)

    def _backend_increment_gradient_accumulators(self, grads: Any, acc_grads: Any) -> None:
        if replicas() == 1:
            super()._backend_increment_gradient_accumulators(grads, acc_grads)  # type: ignore[misc]
            return
        for gradient, total in zip(grads, acc_grads, strict=True):
            total.assign_add(gradient)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step: decayed first, as Keras does."""
        known = self._trainable_variables[self._get_variable_index(variable)]  # type: ignore[attr-defined]
        rate = ops.cast(learning_rate, variable.dtype) * _rule(self.rules, known).rate
        if self.decay and is_decayed(known):
            variable.assign_sub(variable * self.decay * rate)
        if self.l2 and is_decayed(known):
            gradient = gradient + self.l2 * ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, rate)  # type: ignore[misc]


# Keras's classes and their arguments; RMSprop's are those of the MnasNet and EfficientNet papers.
_KERAS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "sgd": ("SGD", {"momentum": 0.9}),
    "rmsprop": ("RMSprop", {"rho": 0.9, "momentum": 0.9}),
    "lion": ("Lion", {}),
    "adam": ("Adam", {}),
    "nadam": ("Nadam", {}),
    "adamax": ("Adamax", {}),
    "adagrad": ("Adagrad", {}),
    "adadelta": ("Adadelta", {}),
    "adafactor": ("Adafactor", {}),
    "lamb": ("Lamb", {}),
    "ftrl": ("Ftrl", {}),
}
FLAT = "adamw"
OPTIMIZERS = (FLAT, *_KERAS)


@dataclass(frozen=True, slots=True)
class OptimizerOptions:
    """What optimizers have in common; see `FlatAdamW`. `loss_scaling` is for float16.

    `l2` times each decayed weight is added to its gradient, after clipping; `FlatAdamW` does not have it.
    `rmsprop_epsilon` is added to the mean square of gradients before its root.
    """

    weight_decay: float = 0.0
    global_clipnorm: float | None = None
    accumulate: int = 1
    loss_scaling: bool = False
    l2: float = 0.0
    rmsprop_epsilon: float = 1e-3


def optimizer_for(
    name: str, schedule: Any, options: OptimizerOptions, rules: Rules = _NO_RULES
) -> keras.optimizers.Optimizer:
    """An optimizer by its name in `OPTIMIZERS`.

    With `loss_scaling`, the loss is multiplied by a number that halves when gradients overflow in float16,
    and rises again later; steps that overflow change nothing.
    """
    if name == FLAT:
        decay, clip = options.weight_decay, options.global_clipnorm
        made = FlatAdamW(schedule, decay, clip, accumulate=options.accumulate, rules=rules)
    else:
        made = _keras_optimizer(name, schedule, options, rules)
    return keras.optimizers.LossScaleOptimizer(made) if options.loss_scaling else made


def _keras_optimizer(
    name: str, schedule: Any, options: OptimizerOptions, rules: Rules
) -> keras.optimizers.Optimizer:
    own, arguments = _KERAS[name]
    kind = type(own, (_ByRule, getattr(keras.optimizers, own)), {})
    if name == "rmsprop":
        arguments = {**arguments, "epsilon": options.rmsprop_epsilon}
    made = kind(
        schedule,
        global_clipnorm=options.global_clipnorm,
        gradient_accumulation_steps=options.accumulate if options.accumulate > 1 else None,
        **arguments,
    )
    made.rules, made.decay = MappingProxyType(dict(rules)), options.weight_decay
    made.l2 = options.l2
    return made


def steps_of(optimizer: keras.optimizers.Optimizer) -> Any:
    """The variable that counts an optimizer's steps, also those that only add up gradients."""
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations
