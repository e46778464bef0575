"""Where a graph's activations are fake-quantized, and which of them share a range.

Each operation that computes new values has a range for its output, except between a convolution or sum and
the ReLU that LiteRT fuses into it. Maps that int8 needs in one range, such as the parts of a concatenation,
share it.

How int8 treats each operation is in the table `operations.toml`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from effkeras.graph.functional import Call
from effkeras.graph.rewrite import Graph, key
from effkeras.layers.fake_quant import SIGNED_UNIT, UNIT, Extent
from effkeras.support.tables import Table, read_toml
from quantize.post_training.ranges import PIXELS
from quantize.rewriting.folding import Folds

FILE = Path(__file__).with_name("operations.toml")

Role = Literal["input", "passes", "keeps", "averages", "computes", "unknown"]

_RELUS = {None: "relu", 6.0: "relu6"}
RELU6: Extent = (0.0, 6.0)

_FIXED = {"sigmoid": UNIT, "softmax": UNIT, "tanh": SIGNED_UNIT, "hard_sigmoid": (0.0, 1.0)}
_FUSED = ("relu", "relu6")
_FUSES = ("Conv2D", "DepthwiseConv2D", "Dense", "SeparableConv2D", "Add", "FastFusion")


def role_of(operation: Any) -> Role:
    """How int8 treats an operation; "unknown" operations compute in float."""
    if isinstance(operation, keras.layers.InputLayer):
        return "input"
    kind = activation_of(operation)
    if kind is not None:
        return _activation_role(kind)
    name = class_name(operation)
    for role in ("passes", "keeps", "averages", "computes"):
        if name in _known()[role]:
            return role  # type: ignore[return-value]
    return "unknown"


def activation_of(operation: Any) -> str | None:
    """Keras' name of the activation function, if the operation is an activation; else None."""
    if isinstance(operation, keras.layers.Activation):
        return activation_name(operation.activation)
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return _RELUS.get(operation.max_value, "clipped_relu") if plain else "leaky_relu"
    return _known()["names"].get(class_name(operation))


def activation_name(function: Any) -> str:
    """Keras' name of an activation function: "linear", "silu" for swish, ...; "unknown" if custom."""
    if function is None:
        return "linear"
    name = keras.activations.serialize(function)
    return name if isinstance(name, str) else "unknown"


def is_prologue(operation: Any) -> bool:
    """Whether an operation at the start of the network only rescales pixels."""
    return class_name(operation) in _known()["prologue"]


def class_name(operation: Any) -> str:
    """The name of a class of Keras or effkeras; "" for custom classes, which may compute anything."""
    owner = type(operation).__module__.partition(".")[0]
    return type(operation).__name__ if owner in ("keras", "effkeras") else ""


def _activation_role(kind: str) -> Role:
    if kind == "linear":
        return "passes"
    return "computes" if kind in _known()["activations"] else "unknown"


@functools.cache
def _known() -> Table:
    return read_toml(FILE)


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Tensors that share a range: its name, the number of tensors, and the range itself where it is known.

    `is_output` is true if one of them is an output of the model.
    """

    name: str
    branches: int
    extent: Extent | None
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class Spot:
    """How a tensor is rounded: in its group's range, which observes it as `branch`; None: not observed."""

    group: Group
    branch: int | None


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """Where a graph's activations are rounded.

    `spots` maps the `id` of a tensor to its spot; `unknown` are the calls that stay in float. `prologue` are
    the calls from the input to the first tensor that is rounded.
    """

    spots: Mapping[int, Spot]
    unknown: tuple[Call, ...]
    prologue: tuple[Call, ...]


def place(graph: Graph, folds: Folds) -> Placement:
    """Decides where a graph's activations are rounded once batch normalisation is folded."""
    return _Placer(_Folded(graph, folds)).placement()


def is_standalone(graph: Graph, folds: Folds, call: Call) -> bool:
    """Whether an activation stays an operator of its own, not fused into the operation before it."""
    return _Folded(graph, folds).is_standalone(call)


class _Folded:
    """The roles of calls once batch normalisation is folded."""

    def __init__(self, graph: Graph, folds: Folds):
        self.graph = graph
        self._gone = {key(call) for call in folds.gone}
        self._alone = {key(call) for call in folds.alone}

    def role(self, call: Call) -> Role:
        if key(call) in self._gone:
            return "passes"
        return "computes" if key(call) in self._alone else role_of(call.operation)

    def is_standalone(self, call: Call) -> bool:
        before = self.graph.maker(call.inputs[0])
        while self.graph.only_user(before) is not None and self.role(before) == "passes":
            before = self.graph.maker(before.inputs[0])
        return self.graph.only_user(before) is None or not self._fuses(before)

    def is_fused(self, call: Call) -> bool:
        """Whether LiteRT fuses the ReLU after a call into it."""
        if not self._fuses(call):
            return False
        user = self.graph.only_user(call)
        while user is not None and self.role(user) == "passes":
            user = self.graph.only_user(user)
        return user is not None and activation_of(user.operation) in _FUSED

    def _fuses(self, call: Call) -> bool:
        linear = activation_name(getattr(call.operation, "activation", None)) == "linear"
        return key(call) in self._alone or (class_name(call.operation) in _FUSES and linear)


class _Placer:
    def __init__(self, folded: _Folded):
        self._folded = folded
        self._graph = folded.graph
        self._role = folded.role
        self._ties: dict[int, int] = {}
        self._names: set[str] = set()

    def placement(self) -> Placement:
        prologue = tuple(self._prologue())
        begun = {key(call) for call in prologue[:-1]}
        for call in self._graph.calls:
            self._tie(call)
        sources = self._sources(begun)
        spots: dict[int, Spot] = {}
        for found in sources.values():
            group = self._group(found, prologue)
            spots |= {id(tensor): Spot(group, branch) for branch, (_, tensor) in enumerate(found)}
        spots |= self._averages(sources, spots)
        unknown = tuple(call for call in self._graph.calls if self._role(call) == "unknown")
        return Placement(spots, tuple(c for c in unknown if not is_prologue(c.operation)), prologue)

    def _tie(self, call: Call) -> None:
        """Records which tensors share a range because of a call."""
        if self._role(call) in ("passes", "keeps", "averages"):
            first, *others = (*call.inputs, *call.outputs)
            for other in others:
                self._ties[self._root(other)] = self._root(first)

    def _root(self, tensor: Any) -> int:
        one = id(tensor)
        while one in self._ties and self._ties[one] != one:
            one = self._ties[one]
        return one

    def _sources(self, begun: set[int]) -> dict[int, list[tuple[Call, Any]]]:
        """The tensors with newly computed values, by the root of the tensors that share their range."""
        found: dict[int, list[tuple[Call, Any]]] = {}
        for call in self._graph.calls:
            if self._role(call) not in ("input", "computes", "unknown") or key(call) in begun:
                continue
            if self._folded.is_fused(call) or self._is_last_softmax(call):
                continue
            for tensor in call.outputs:
                if keras.backend.is_float_dtype(tensor.dtype):
                    found.setdefault(self._root(tensor), []).append((call, tensor))
        return found

    def _averages(
        self, sources: Mapping[int, list[tuple[Call, Any]]], spots: Mapping[int, Spot]
    ) -> dict[int, Spot]:
        """The spots of averages: their values lie in the input's range and are rounded in it."""
        found = {}
        for call in self._graph.calls:
            root = self._root(call.outputs[0])
            if self._role(call) == "averages" and root in sources:
                group = spots[id(sources[root][0][1])].group
                found[key(call)] = Spot(group, None)
        return found

    def _group(self, found: list[tuple[Call, Any]], prologue: tuple[Call, ...]) -> Group:
        call = found[0][0]
        extent = self._extent(call, prologue) if len(found) == 1 else None
        ends = {self._root(output) for output in self._graph.model.outputs}
        return Group(self._name(call), len(found), extent, self._root(found[0][1]) in ends)

    def _extent(self, call: Call, prologue: tuple[Call, ...]) -> Extent | None:
        if len(prologue) > 1 and call is prologue[-1]:
            return pixel_extent(prologue)
        if activation_of(call.operation) == "relu6" and self._folded.is_standalone(call):
            return RELU6
        return _FIXED.get(_activation(call) or "")

    def _name(self, call: Call) -> str:
        name, count = f"{call.operation.name}_range", 2
        while name in self._names:
            name, count = f"{call.operation.name}_range_{count}", count + 1
        self._names.add(name)
        return name

    def _is_last_softmax(self, call: Call) -> bool:
        """Whether a call is a softmax at the model's output, which is not rounded."""
        return _activation(call) == "softmax" and not self._graph.users(call.outputs[0])

    def _prologue(self) -> Iterator[Call]:
        call: Call | None = next(call for call in self._graph.calls if call.is_input)
        while call is not None and (call.is_input or is_prologue(call.operation)):
            yield call
            call = self._graph.only_user(call)


def pixel_extent(prologue: tuple[Call, ...]) -> Extent:
    """The output range of the first layers for pixels 0..255."""
    pixels = prologue[0].outputs[0]
    tensor = prologue[-1].outputs[0]
    ends = np.array([np.full((1, *pixels.shape[1:]), end) for end in PIXELS], np.float32)
    made = keras.Model(pixels, tensor).predict_on_batch(ends[:, 0])
    return float(min(made.min(), 0)), float(max(made.max(), 0))


def _activation(call: Call) -> str | None:
    """The activation at the end of a call."""
    kind = activation_of(call.operation)
    if kind is None and hasattr(call.operation, "activation"):
        return activation_name(call.operation.activation)
    return kind
