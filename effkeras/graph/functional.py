"""The graph of a functional Keras model: its calls in order, and copies of parts of it.

Keras exposes the nodes of a graph by private attributes only; no other module uses them.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from effkeras.support.errors import EffkerasError, did_you_mean

KerasTensor = Any
Config = dict[str, Any]
# The name of a layer, preceded by the names of the nested models that contain it.
NamePath = tuple[str, ...]

_DEEPEST = 20_000


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """One call of an operation (mostly a layer) in a model's graph."""

    operation: Any
    inputs: tuple[KerasTensor, ...]
    outputs: tuple[KerasTensor, ...]
    arguments: Any

    @property
    def is_input(self) -> bool:
        """Whether this call represents the model's input."""
        return isinstance(self.operation, keras.layers.InputLayer)


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a functional model that leads from the tensor `start` to the tensors `ends`."""

    model: keras.Model
    start: KerasTensor
    ends: tuple[KerasTensor, ...]


@dataclass(frozen=True, slots=True)
class CopyRules:
    """How copied layers differ from their originals.

    `name` gives a copy's name, `change` its config; `dtype` is a Keras dtype policy. Without `weights`,
    copies have newly initialised weights. `replace` returns a function to use in place of a call, which takes
    the call's arguments and returns its outputs; None copies the layer. `after` may transform a result.
    """

    dtype: str = "float32"
    name: Callable[[NamePath], str] = field(default="_".join)
    change: Callable[[Any, Config], Config] = field(default=lambda layer, config: config)
    weights: bool = False
    replace: Callable[[Call], Callable[..., Any] | None] = field(default=lambda call: None)
    after: Callable[[Call, Any], Any] = field(default=lambda call, result: result)


@contextlib.contextmanager
def deep_graphs() -> Iterator[None]:
    """Allows graphs of any depth: Keras recurses once per layer, and EfficientNetV2-XL has a thousand."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEEPEST))
    try:
        yield
    except RecursionError as error:
        raise EffkerasError("the network is too deep for Keras; choose a smaller phi or depth") from error
    finally:
        sys.setrecursionlimit(before)


def calls_of(model: keras.Model) -> list[Call]:
    """All calls of a functional model in computing order."""
    by_depth = getattr(model, "_functional", model)._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [
        Call(node.operation, tuple(node.input_tensors), tuple(node.outputs), node.arguments) for node in nodes
    ]


def is_functional(operation: Any) -> bool:
    """Whether an operation is a model whose layers form a graph (a built Sequential is one)."""
    graph = getattr(operation, "_functional", operation)  # where a Sequential keeps its graph
    return isinstance(operation, keras.Model) and hasattr(graph, "_nodes_by_depth")


def whole_model(model: keras.Model) -> Part:
    """The whole of a functional model with one input."""
    check_functional(model)
    return Part(model, model.inputs[0], tuple(model.outputs))


def output_of(model: keras.Model, name: str) -> KerasTensor:
    """The feature map (B, H, W, C) that a layer outputs in its last call.

    Raises EffkerasError when there is no such layer, or its output is not a feature map.
    """
    outputs = {call.operation.name: call.outputs for call in calls_of(model)}
    if name not in outputs:
        hint = did_you_mean(name, outputs)
        raise EffkerasError(f"the model {model.name!r} has no layer {name!r} to tap; {hint}")
    if [len(one.shape) for one in outputs[name]] != [4]:
        raise EffkerasError(
            f"the layer {name!r} of {model.name!r} has no feature map (B, H, W, C) as its output; "
            "choose another layer"
        )
    return outputs[name][0]


def maker(tensor: KerasTensor) -> Any:
    """The operation that outputs a tensor."""
    return tensor._keras_history.operation


def layer_path(tensor: KerasTensor) -> NamePath:
    """The name of the layer that outputs a tensor, preceded by those of the nested models that contain it."""
    operation = maker(tensor)
    if not is_functional(operation):
        return (operation.name,)
    return (operation.name, *layer_path(operation.outputs[tensor._keras_history.tensor_index]))


def output_structure(model: keras.Model) -> Any:
    """The outputs in the structure that the model's author chose: a tensor, a list, or a dict."""
    return getattr(model, "_functional", model)._outputs_struct


def check_functional(model: keras.Model) -> None:
    """Raises EffkerasError unless the model's layers form a graph with one input."""
    if not is_functional(model):
        raise EffkerasError(
            f"the model {model.name!r} is not functional: its layers form no graph; "
            "make it with keras.Model(inputs, outputs)"
        )
    if len(model.inputs) != 1:
        raise EffkerasError(f"the model {model.name!r} has {len(model.inputs)} inputs; one image is needed")


def copy_onto(x: KerasTensor, part: Part, rules: CopyRules) -> list[KerasTensor]:
    """Calls copies of a part's layers on another tensor, and flattens nested models.

    Args:
        x: replaces `part.start`.
        part: the part to copy; a layer that is called twice is copied once.
        rules: how the copies differ.

    Returns:
        The tensors that correspond to `part.ends`.
    """
    return _Copier(rules).run(x, part, outer=())


class _Copier:
    """One copying run: the copies so far, by the id of the original."""

    def __init__(self, rules: CopyRules):
        self._rules = rules
        self._copies: dict[int, Any] = {}

    def run(self, x: KerasTensor, part: Part, outer: NamePath) -> list[KerasTensor]:
        values = {id(part.start): x}
        for call in _needed(part):
            args, kwargs = call.arguments.fill_in(values)
            stand_in = self._rules.replace(call)
            result = stand_in(*args) if stand_in else self._call(call.operation, outer, args, kwargs)
            result = self._rules.after(call, result)
            values |= zip(map(id, call.outputs), keras.tree.flatten(result), strict=True)
        return [values[id(end)] for end in part.ends]

    def _call(self, operation: Any, outer: NamePath, args: tuple[Any, ...], kwargs: Config) -> Any:
        path = (*outer, operation.name)
        if isinstance(operation, keras.Sequential):
            return functools.reduce(
                lambda x, inner: self._call(inner, path, (x,), {}), operation.layers, *args
            )
        if is_functional(operation):
            ends = self.run(args[0], whole_model(operation), path)
            return keras.tree.pack_sequence_as(output_structure(operation), ends)
        copy = self._copy(operation, path)
        result = copy(*args, **kwargs)
        if self._rules.weights and isinstance(operation, keras.Layer):
            copy.set_weights(operation.get_weights())
        return result

    def _copy(self, operation: Any, path: NamePath) -> Any:
        known = self._copies.get(id(operation))
        if known is None:
            known = self._copies[id(operation)] = self._new(operation, path)
        return known

    def _new(self, operation: Any, path: NamePath) -> Any:
        try:
            config = {**operation.get_config(), "name": self._rules.name(path)}
            if isinstance(operation, keras.Layer):
                config["dtype"] = self._rules.dtype
            return _from_config(operation, self._rules.change(operation, config))
        except (NotImplementedError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise EffkerasError(
                f"the layer {operation.name!r} ({type(operation).__name__}) cannot be copied by its "
                f"get_config and from_config: {reason}"
            ) from error


def _from_config(operation: Any, config: Config) -> Any:
    if isinstance(operation, keras.layers.Lambda):  # as text, its function would lose its references
        given = {key: config[key] for key in ("arguments", "name", "dtype")}
        return keras.layers.Lambda(operation.function, output_shape=operation._output_shape, **given)
    return type(operation).from_config(config)


def _needed(part: Part) -> list[Call]:
    """The calls between a part's start and its ends, in computing order."""
    wanted = {id(end) for end in part.ends}
    chosen = []
    for call in reversed(calls_of(part.model)):
        own = wanted & set(map(id, call.outputs))
        if own and id(part.start) not in own and not call.is_input:
            chosen.append(call)
            wanted |= set(map(id, call.inputs))
    return chosen[::-1]
