"""The int8-friendly rewrite: replaces operations that lose accuracy in int8.

Swish becomes hard swish or ReLU6. Squeeze-and-excitation gets a hard gate, or becomes a constant factor in
the next convolution's weights, as in EfficientNet-Lite. The outputs change; distillation from the original
model (`quantize.distill`) restores them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.definitions.networks import Activation, Network
from effkeras.graph.counting import layer_channels
from effkeras.graph.functional import Call
from effkeras.graph.rewrite import (
    Graph,
    StandIn,
    check_finite,
    key,
    relative_errors,
    renewed,
    watched_rewrite,
    with_weights,
)
from effkeras.layers import Normalize
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.tables import parse_toml
from quantize.report import Compressed, LayerReport, StepReport
from quantize.rewriting.recognition import (
    SIGMOID,
    SWISH,
    SqueezeExcitation,
    absorbers,
    activation_of,
    find_squeeze_excitations,
    has_weights,
    is_function,
    is_product,
    live_calls,
    measured_factors,
    resting_factor,
    scaled_inputs,
    swish_input,
)
from quantize.specs import FriendlySpec

STEP = "friendly"
ERROR_IS = "error / std of the layer's output"
# The number of images to measure errors on: the feature maps of a whole network must fit in memory.
PROBED = 8
HARD = "hard_sigmoid"
ACTIVATIONS = ("keep", "hard_swish", "relu6")
SQUEEZES = ("keep", "hard", "remove")

Array = np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Change:
    """A replacement: the call, its description, and the tensor `watched` to measure its error on."""

    call: Call
    why: str
    watched: Any


def friendly(
    model: keras.Model, spec: FriendlySpec | None = None, *, images: Array | None = None
) -> Compressed:
    """Replaces swish and squeeze-and-excitation.

    The mean factor of a removed squeeze-and-excitation moves into the weights of the next convolutions, or
    into a 1x1 depthwise convolution where that is impossible.

    Args:
        model: any functional Keras model with one input.
        spec: the replacements; default: swish by ReLU6.
        images: (B, H, W, 3), as the model takes them, to measure gates and errors on. Without them, a gate's
            factor is the one for channel means of zero, and errors are not measured.

    Returns:
        The new model, in float32, and a report with an entry per activation and gate. A model built by
        effkeras gets the definition of the new network.

    Raises:
        EffkerasError: the model is not functional, weights or gates are NaN or infinite, or the images are
            empty, all of one colour, or of another size.
    """
    spec = spec or FriendlySpec()
    _check_spec(spec)
    check_finite(model)
    graph = Graph.of(model)
    if images is not None:
        _check_images(graph.model, images)
    rewriter = _Rewriter(graph, spec)
    gates = find_squeeze_excitations(graph) if spec.squeeze != "keep" else ()
    changes = rewriter.gates(gates, images)
    changes += rewriter.activations(gates)
    rewriter.definition()
    new, became = watched_rewrite(graph, rewriter.plan(), [change.watched for change in changes])
    errors: list[float | None] = [None] * len(changes)
    if images is not None and changes:
        wanted = graph.model.input, [change.watched for change in changes]
        errors = list(relative_errors(images[:PROBED], wanted, (new.input, became)))
    entries = [_entry(change, error) for change, error in zip(changes, errors, strict=True)]
    skipped = (*rewriter.skipped, *_undescribed(model, new))
    return Compressed(new, StepReport(STEP, (*entries, *skipped), ERROR_IS))


class _Rewriter:
    """Collects the replacements of calls; a layer with several calls is replaced once."""

    def __init__(self, graph: Graph, spec: FriendlySpec):
        self._graph = graph
        self._spec = spec
        self._configs: dict[int, dict[str, Any]] = {}
        self._weights: dict[int, list[Array]] = {}
        self._stand_ins: dict[int, StandIn] = {}
        self.skipped: list[LayerReport] = []

    def gates(self, gates: Sequence[SqueezeExcitation], images: Array | None) -> list[Change]:
        """Removes squeeze-and-excitations, or makes their gates hard."""
        if self._spec.squeeze == "hard":
            return [change for gate in gates for change in self._hardened(gate)]
        return [
            self._removed(gate, factor)
            for gate, factor in zip(gates, self._factors(gates, images), strict=True)
        ]

    def activations(self, gates: Sequence[SqueezeExcitation]) -> list[Change]:
        """Replaces every swish, except in gates that are removed."""
        target = self._spec.activation
        if target == "keep":
            return []
        live = live_calls(self._graph, gates if self._spec.squeeze == "remove" else ())
        return [change for call in live for change in self._replaced_swish(call, target)]

    def definition(self) -> None:
        """Updates the definition that the model carries."""
        for call in self._graph.calls:
            layer = call.operation
            if isinstance(layer, Normalize) and layer.definition:
                new = friendly_definition(_definition(layer), self._spec)
                self._configs.setdefault(id(layer), {})["definition"] = new.to_toml()

    def plan(self) -> dict[int, StandIn]:
        """The replacements for `watched_rewrite`, by call."""
        made: dict[int, StandIn] = {}
        for call in self._graph.calls:
            layer = call.operation
            changed = id(layer) in self._configs or id(layer) in self._weights
            if changed and id(layer) not in made:
                made[id(layer)] = self._new(layer)
            if changed:
                self._stand_ins.setdefault(key(call), made[id(layer)])
        return self._stand_ins

    def _new(self, layer: Any) -> StandIn:
        changes = self._configs.get(id(layer), {})
        if is_function(layer):
            return keras.layers.Activation(changes["activation"], name=layer.name)
        return with_weights(renewed(layer, **changes), *self._weights.get(id(layer), layer.get_weights()))

    def _factors(self, gates: Sequence[SqueezeExcitation], images: Array | None) -> list[Array]:
        if images is None:
            return [resting_factor(self._graph, gate) for gate in gates]
        return measured_factors(self._graph, gates, images)

    def _removed(self, gate: SqueezeExcitation, factor: Array) -> Change:
        call, place = gate.scale, gate.place
        holders = absorbers(self._graph, call.outputs[0], factor)
        if holders is None:
            conv = keras.layers.DepthwiseConv2D(1, use_bias=False, name=call.operation.name)
            after = with_weights(conv, factor[None, None, :, None])
            self._stand_ins[key(call)] = lambda *args: after(_argument(args, place))
            return Change(call, "removed; its mean gate is a 1x1 depthwise convolution", call.outputs[0])
        for one, part in holders:
            self._weights[id(one.operation)] = scaled_inputs(one.operation, part)
        self._stand_ins[key(call)] = lambda *args: _argument(args, place)
        names = ", ".join(one.operation.name for one, _ in holders)
        return Change(call, f"removed; its mean gate is in {names}", _end(gate, holders))

    def _hardened(self, gate: SqueezeExcitation) -> Iterator[Change]:
        for call in gate.calls:
            if activation_of(call.operation) not in SIGMOID:
                continue
            change = self._activated(call, HARD)
            if not has_weights(call.operation):  # it may also be used elsewhere, as an output probability
                self._configs.pop(id(call.operation))
                name = f"{gate.scale.operation.name}_{HARD}" if self._is_shared(call) else call.operation.name
                self._stand_ins[key(call)] = keras.layers.Activation(HARD, name=name)
            yield change

    def _is_shared(self, call: Call) -> bool:
        return len(self._graph.calls_with(call.operation)) > 1

    def _replaced_swish(self, call: Call, target: str) -> Iterator[Change]:
        layer = call.operation
        if activation_of(layer) in SWISH:
            if is_function(layer) or "activation" in layer.get_config():
                yield self._activated(call, target)
            else:
                why = "its config has no activation to change"
                self.skipped.append(LayerReport(layer.name, type(layer).__name__, "skipped", why))
        elif is_product(call):
            place = swish_input(self._graph, call)
            if place is not None:
                activation = keras.layers.Activation(target, name=call.operation.name)
                self._stand_ins[key(call)] = lambda *args: activation(_argument(args, place))
                yield Change(call, f"x * sigmoid(x) -> {target}", call.outputs[0])

    def _activated(self, call: Call, target: str) -> Change:
        before = activation_of(call.operation)
        self._configs.setdefault(id(call.operation), {})["activation"] = target
        return Change(call, f"{'swish' if before in SWISH else before} -> {target}", call.outputs[0])


def _argument(args: tuple[Any, ...], place: int) -> Any:
    """One input of a call whose inputs are two tensors or a list of them."""
    return keras.tree.flatten(args)[place]


def _end(gate: SqueezeExcitation, holders: Sequence[tuple[Call, Array]]) -> Any:
    """The first tensor after the factor is applied: the output of the first convolution that holds it."""
    return holders[0][0].outputs[0] if holders else gate.scale.outputs[0]


def _entry(change: Change, error: float | None) -> LayerReport:
    operation = change.call.operation
    return LayerReport(operation.name, type(operation).__name__, "done", change.why, error)


def _definition(layer: Normalize) -> ModelSpec:
    return spec_from_table(parse_toml(layer.definition, layer.name), layer.name)


def _undescribed(before: keras.Model, after: keras.Model) -> Iterator[LayerReport]:
    """Reports definitions that described the model before, but cannot describe the new one."""
    for old, new in zip(_normalizers(before), _normalizers(after), strict=False):
        if _describes(old, before) and not _describes(new, after):
            why = "its definition cannot describe the new network: build would make other layers"
            yield LayerReport(new.name, "Normalize", "skipped", why)


def _normalizers(model: keras.Model) -> list[Normalize]:
    return [layer for layer in model.layers if isinstance(layer, Normalize) and layer.definition]


def _describes(layer: Normalize, model: keras.Model) -> bool:
    spec = _definition(layer)
    if spec.network.needs_model:
        return True  # it names layers only
    return {one.name for one in model.layers if one.weights} == set(layer_channels(spec))


def _check_spec(spec: FriendlySpec) -> None:
    for name, known in (("activation", ACTIVATIONS), ("squeeze", SQUEEZES)):
        value = getattr(spec, name)
        if value not in known:
            raise EffkerasError(f"{STEP}: there is no {name} {value!r}; {did_you_mean(str(value), known)}")


def _check_images(model: keras.Model, images: Array) -> None:
    problem = _image_problem(tuple(model.input.shape[1:]), images)
    if problem:
        raise EffkerasError(f"{STEP}: {problem}")


def _image_problem(shape: tuple[int | None, ...], images: Array) -> str:
    """What is wrong with images that should be (B, *shape); empty if nothing is."""
    if images.ndim != 4 or any(
        side not in (None, got) for side, got in zip(shape, images.shape[1:], strict=True)
    ):
        return f"the model takes images (B, H, W, C) of {shape}, not an array {images.shape}"
    if len(images) == 0:
        return "there are no images to measure on"
    if not np.isfinite(images).all():
        return "the images hold values that are not finite"
    if np.ptp(images) == 0:
        return "the images are all one colour; what is measured there means nothing"
    return ""


def friendly_definition(spec: ModelSpec, how: FriendlySpec) -> ModelSpec:
    """The definition with replaced activations and gates; `[channels]` loses layers that no longer exist."""
    network = spec.network.with_activations(lambda activation: _replaced(activation, how))
    network = _with_gate(network, how)
    fpn = spec.fpn and dataclasses.replace(spec.fpn, activation=_replaced(spec.fpn.activation, how))
    new = spec.replace(network=network, fpn=fpn, channels={})
    if not spec.channels:
        return new
    known = layer_channels(new)
    return new.replace(channels={name: width for name, width in spec.channels.items() if name in known})


def _with_gate(network: Network, how: FriendlySpec) -> Network:
    if how.squeeze == "keep":
        return network
    return network.with_gate(None if how.squeeze == "remove" else "hard_sigmoid")


def _replaced(activation: Activation, how: FriendlySpec) -> Activation:
    return how.activation if activation == "swish" and how.activation != "keep" else activation
