"""Rewrites functional Keras models: replaces chosen calls and copies the rest.

Every compression that changes a graph is a plan for this one engine. The plan gives replacements for some
calls. All other calls are copied with their weights, and the original model stays unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import (
    Call,
    CopyRules,
    calls_of,
    check_functional,
    copy_onto,
    deep_graphs,
    is_functional,
    output_structure,
    whole_model,
)
from effkeras.support.errors import EffkerasError

TINY = 1e-12

KerasTensor = Any
# The replacement of a call: a function that takes the call's arguments and returns its outputs.
StandIn = Callable[..., Any]
# Stand-ins by the id of the call's first output.
Plan = Mapping[int, StandIn]
# Transforms a call's result, which has the structure of the call's outputs.
After = Callable[[Call, Any], Any]


@dataclass(frozen=True, eq=False, slots=True)
class Graph:
    """A model's flat graph, with the producer and the users of each tensor.

    `calls` are in computing order. Tensors and calls are compared by identity.
    """

    model: keras.Model
    calls: tuple[Call, ...]
    _makers: Mapping[int, Call]
    _users: Mapping[int, tuple[Call, ...]]

    @classmethod
    def of(cls, model: keras.Model) -> Graph:
        """The graph of a model with one input; nested models are flattened in a copy."""
        model = flat(model)
        calls = tuple(calls_of(model))
        makers = {id(output): call for call in calls for output in call.outputs}
        users: dict[int, list[Call]] = {id(output): [] for call in calls for output in call.outputs}
        for call in calls:
            for one in call.inputs:
                users[id(one)].append(call)
        return cls(model, calls, makers, {key: tuple(found) for key, found in users.items()})

    def maker(self, tensor: KerasTensor) -> Call:
        """The call that outputs a tensor."""
        return self._makers[id(tensor)]

    def users(self, tensor: KerasTensor) -> tuple[Call, ...]:
        """The calls that take a tensor; a call that takes it twice appears twice."""
        return self._users[id(tensor)]

    def is_output(self, tensor: KerasTensor) -> bool:
        """Whether this tensor is an output of the model."""
        return any(tensor is output for output in self.model.outputs)

    def only_user(self, call: Call) -> Call | None:
        """The only call that takes this call's output; None if several do, or if it is a model output."""
        if len(call.outputs) != 1 or self.is_output(call.outputs[0]):
            return None
        users = self.users(call.outputs[0])
        return users[0] if len(users) == 1 else None

    def calls_with(self, operation: Any) -> tuple[Call, ...]:
        """All calls of one layer; a shared layer has several."""
        return tuple(call for call in self.calls if call.operation is operation)


def flat(model: keras.Model) -> keras.Model:
    """The model itself if no layer is a model, else a flat copy with its weights.

    A layer of a nested model gets both names: `outer_inner`. Raises EffkerasError when the model is not
    functional, has several inputs, or has a layer that cannot be copied.
    """
    check_functional(model)
    if not isinstance(model, keras.Sequential) and not any(map(is_functional, model.layers)):
        return model
    return _copied(model, CopyRules(weights=True))[0]


def copied(model: keras.Model, rules: CopyRules) -> keras.Model:
    """A flat copy of a model by the rules, with the same input and outputs."""
    return _copied(model, rules)[0]


def key(call: Call) -> int:
    """The key of a call in a plan."""
    return id(call.outputs[0])


def passed_on(x: Any) -> Any:
    """A stand-in that returns its input, for a call that is removed."""
    return x


def rewrite(graph: Graph, plan: Plan, after: After | None = None) -> keras.Model:
    """A float32 copy of the graph's model with the plan's stand-ins.

    A layer that is called several times and not replaced stays one layer. `after` may transform the result of
    each call, including the input's; later calls take the transformed result.
    """
    rules = CopyRules(weights=True, replace=lambda call: plan.get(key(call)))
    return _copied(graph.model, rules if after is None else replace(rules, after=after))[0]


def watched_rewrite(
    graph: Graph, plan: Plan, watched: Iterable[KerasTensor]
) -> tuple[keras.Model, list[KerasTensor]]:
    """Like `rewrite`; also returns the tensors that correspond to `watched` tensors of the graph."""
    return _copied(graph.model, CopyRules(weights=True, replace=lambda call: plan.get(key(call))), watched)


def renewed(layer: keras.Layer, **changes: Any) -> keras.Layer:
    """A new layer of the same class with a changed config; it gets weights when it is called."""
    return type(layer).from_config({**layer.get_config(), "dtype": "float32", **changes})


def with_weights(layer: keras.Layer, *weights: np.ndarray) -> StandIn:
    """A stand-in that calls a layer and sets its weights."""

    def call(*args: Any) -> Any:
        outputs = layer(*args)
        layer.set_weights(list(weights))
        return outputs

    return call


def check_finite(model: keras.Model) -> None:
    """Raises EffkerasError, naming the first weight with NaN or infinite values."""
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise EffkerasError(
                f"the weight {weight.path} of {model.name!r} is not finite: the training has diverged; "
                "go back to an earlier checkpoint"
            )


def relative_errors(
    images: np.ndarray,
    wanted: tuple[KerasTensor, list[KerasTensor]],
    got: tuple[KerasTensor, list[KerasTensor]],
) -> list[float]:
    """The difference of tensors of two models, each relative to the standard deviation of the wanted one.

    Args:
        images: (B, H, W, C).
        wanted: a model's input, and tensors computed from it.
        got: another model's input, and the corresponding tensors.
    """
    with deep_graphs():
        outputs = (keras.Model(*one).predict_on_batch(images) for one in (wanted, got))
        before, after = map(keras.tree.flatten, outputs)  # Keras returns a list of one tensor as that tensor
    return [float(np.std(new - old) / (np.std(old) + TINY)) for old, new in zip(before, after, strict=True)]


def _copied(
    model: keras.Model, rules: CopyRules, watched: Iterable[KerasTensor] = ()
) -> tuple[keras.Model, list[KerasTensor]]:
    part = whole_model(model)
    ends = (*part.ends, *watched)
    with deep_graphs():
        x = keras.Input(batch_shape=part.start.shape, dtype=part.start.dtype, name=part.start.name)
        (entry,) = (call for call in calls_of(model) if call.is_input)
        found = copy_onto(rules.after(entry, x), replace(part, ends=ends), rules)
        count = len(part.ends)
        outputs = keras.tree.pack_sequence_as(output_structure(model), found[:count])
        return keras.Model(x, outputs, name=model.name), found[count:]
