"""Selects the kernels that a step changes: those of convolution and dense layers that are not skipped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import is_functional
from effkeras.graph.rewrite import Graph
from effkeras.support.errors import EffkerasError, did_you_mean
from quantize.report import LayerReport

# Returns why a kernel cannot be changed; empty if it can.
Unfit = Callable[[np.ndarray], str]

STEM = "stem"
PREDICTORS = "predictors"
ONLY_1X1 = "not a 1x1 convolution"
DEPTHWISE = "depthwise, which is left out unless asked for"
SKIPPED = "left out by skip"
# Reasons that the user's options cause, not the layer.
CHOSEN = (ONLY_1X1, DEPTHWISE, SKIPPED)

_POINTWISE = "pointwise_kernel"
_KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class KernelFilter:
    """The kernels that a step may change.

    `skip` are regular expressions for layer names, or the words "stem" and "predictors". `depthwise` includes
    depthwise convolutions, `only_1x1` excludes all but 1x1 convolutions.
    """

    skip: tuple[str, ...] = ()
    depthwise: bool = False
    only_1x1: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A kernel that a step changes: the attribute `weight` of the layer `name` of class `kind`."""

    name: str
    kind: str
    weight: str

    def variable(self, model: keras.Model) -> keras.Variable:
        """The kernel's variable in a model that has the layer."""
        return getattr(layer_named(model, self.name), self.weight)

    def array(self, model: keras.Model) -> np.ndarray:
        """The kernel's values, (..., input channels, filters)."""
        return values_of(self.variable(model))


@dataclass(frozen=True, slots=True)
class Selection:
    """The kernels that a step changes, and the layers that it skips, in the network's order."""

    targets: tuple[Target, ...]
    skipped: tuple[LayerReport, ...]


def values_of(weight: keras.Variable) -> np.ndarray:
    """A weight as an array; float32 where numpy lacks its type."""
    values = keras.ops.convert_to_numpy(weight)
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def layer_named(model: keras.Model, name: str) -> keras.Layer:
    """The layer with a name; for a layer of a nested model, the joined name of the flat model.

    Raises EffkerasError when there is none.
    """
    found = _find(model, name)
    if found is None:
        names = [layer.name for layer in model.layers]
        raise EffkerasError(f"the model {model.name!r} has no layer {name!r}; {did_you_mean(name, names)}")
    return found


def any_kernel(kernel: np.ndarray) -> str:
    """The `unfit` of steps that can change every kernel."""
    return ""


def select(graph: Graph, choice: KernelFilter, unfit: Unfit = any_kernel) -> Selection:
    """Finds the kernels for a step.

    Args:
        graph: the model.
        choice: the kernels that the step may change.
        unfit: returns why a kernel cannot be changed; empty if it can.

    Raises:
        EffkerasError: a `skip` matches no layer or is not a regular expression, or no kernel is left.
    """
    left_out = _skipped(graph, choice.skip)
    targets: list[Target] = []
    skipped: list[LayerReport] = []
    for layer in kernel_layers(graph):
        found, why = ([], SKIPPED) if layer.name in left_out else _targets_or_reason(layer, choice, unfit)
        targets += found
        if not found:
            skipped.append(LayerReport(layer.name, type(layer).__name__, "skipped", why))
    if not targets:
        raise EffkerasError(_nothing(graph.model, skipped))
    return Selection(tuple(targets), tuple(skipped))


def kernel_layers(graph: Graph) -> list[keras.Layer]:
    """All layers that have a kernel (a weight with two or more axes), each once, in the network's order."""
    layers = {id(call.operation): call.operation for call in graph.calls if _has_kernel(call.operation)}
    return list(layers.values())


def stem(graph: Graph) -> set[str]:
    """The names of the first layers with a kernel on each path from the input."""
    after: set[int] = set()
    found: set[str] = set()
    later: set[str] = set()
    for call in graph.calls:
        is_later = any(id(one) in after for one in call.inputs)
        if _has_kernel(call.operation):
            (later if is_later else found).add(call.operation.name)
        if is_later or _has_kernel(call.operation):
            after |= set(map(id, call.outputs))
    return found - later


def predictors(graph: Graph) -> set[str]:
    """The names of the last layers with a kernel on each path to an output."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting = list(graph.model.outputs)
    while waiting:
        tensor = waiting.pop()
        call = graph.maker(tensor)
        if _has_kernel(call.operation):
            found.add(call.operation.name)
        elif id(tensor) not in seen:
            waiting += call.inputs
        seen.add(id(tensor))
    return found


def _find(model: keras.Model, name: str) -> keras.Layer | None:
    for layer in model.layers:
        if not is_functional(layer):
            found = layer if layer.name == name else None
        else:
            rest = name.removeprefix(f"{layer.name}_")
            found = _find(layer, rest) if rest != name else None
        if found is not None:
            return found
    return None


def _skipped(graph: Graph, skip: Sequence[str]) -> set[str]:
    words = {STEM: stem, PREDICTORS: predictors}
    names = [layer.name for layer in kernel_layers(graph)]
    return {name for one in skip for name in (words[one](graph) if one in words else _matches(one, names))}


def _matches(pattern: str, names: Sequence[str]) -> list[str]:
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise EffkerasError(f"skip: {pattern!r} is not a valid regular expression: {error}") from error
    if not found:
        hint = did_you_mean(pattern, (*names, STEM, PREDICTORS))
        raise EffkerasError(f"skip: {pattern!r} matches no convolution or dense layer; {hint}")
    return found


def _targets_or_reason(layer: keras.Layer, choice: KernelFilter, unfit: Unfit) -> tuple[list[Target], str]:
    """A layer's selected kernels, and the reason why others are not selected."""
    wanted = list(_targets(layer, choice))
    reasons = [unfit(values_of(getattr(layer, one.weight))) for one in wanted]
    found = [one for one, reason in zip(wanted, reasons, strict=True) if not reason]
    return found, next(filter(None, reasons), "") or _why_not(layer, choice)


def _targets(layer: keras.Layer, choice: KernelFilter) -> Iterator[Target]:
    for weight, is_depthwise in _weights(layer):
        if is_depthwise and not choice.depthwise:
            continue
        if choice.only_1x1 and not _is_1x1(layer, weight):
            continue
        yield Target(layer.name, type(layer).__name__, weight)


def _weights(layer: keras.Layer) -> tuple[tuple[str, bool], ...]:
    """The attributes that hold a layer's kernels, and whether each is depthwise."""
    kinds = keras.layers
    if isinstance(layer, kinds.SeparableConv1D | kinds.SeparableConv2D):
        return (("depthwise_kernel", True), (_POINTWISE, False))
    if isinstance(layer, kinds.DepthwiseConv1D | kinds.DepthwiseConv2D):
        return ((_KERNEL, True),)
    plain = (kinds.Dense, kinds.Conv1D, kinds.Conv2D, kinds.Conv3D)
    transposed = (kinds.Conv1DTranspose, kinds.Conv2DTranspose, kinds.Conv3DTranspose)
    return ((_KERNEL, False),) if isinstance(layer, (*plain, *transposed)) else ()


def _is_1x1(layer: keras.Layer, weight: str) -> bool:
    if isinstance(layer, keras.layers.SeparableConv2D):
        return weight == _POINTWISE
    return isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1)


def _why_not(layer: keras.Layer, choice: KernelFilter) -> str:
    """Why none of a layer's kernels is selected."""
    weights = _weights(layer)
    if not weights:
        return f"{type(layer).__name__} is neither a convolution nor a dense layer"
    is_depthwise = all(depthwise for _, depthwise in weights)
    return DEPTHWISE if is_depthwise and not choice.depthwise else ONLY_1X1


def _has_kernel(operation: Any) -> bool:
    if not isinstance(operation, keras.Layer) or isinstance(operation, keras.layers.PReLU):
        return False
    return bool(_weights(operation)) or any(len(weight.shape) >= 2 for weight in operation.weights)


def _nothing(model: keras.Model, skipped: Sequence[LayerReport]) -> str:
    reasons = ", ".join(dict.fromkeys(one.why for one in skipped)) or "it has no convolution or dense layer"
    return f"nothing in {model.name!r} can be changed: {reasons}; check skip and layers"
