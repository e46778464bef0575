"""Channel dependencies in a functional Keras model: the channels that must be pruned together.

Every channel that a layer creates has a number. Layers that process channels separately pass the numbers on.
Layers that mix channels (convolutions, Dense) end them and create new ones. Layers that combine maps
element by element link them: linked channels can only be removed together. Dependency graphs of this kind
are due to Fang et al., "DepGraph" (arXiv:2301.12900).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import Call, calls_of
from effkeras.layers import (
    ChannelSlice,
    DropBlock,
    DropPath,
    FastFusion,
    NearestUpsample,
    Normalize,
)
from effkeras.layers.batch_norm import BatchNormalization

# One number for each channel of a tensor, (C,).
Numbers = np.ndarray
Handler = Callable[["_Tracer", Call, list[Numbers]], Numbers]

# Activations that read all channels at once.
_MIXING = ("softmax", "log_softmax", "sparsemax", "glu")
# Keras layers that process each channel separately, and those that combine maps element by element.
_CARRYING = (
    *("Activation", "ReLU", "LeakyReLU", "ELU", "Identity"),
    *("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout"),
    *("ZeroPadding2D", "Cropping2D", "UpSampling2D", "Resizing", "MaxPooling2D", "AveragePooling2D"),
    *("GlobalAveragePooling2D", "GlobalMaxPooling2D"),
)
_COMBINING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
# Operations that are not layers, by Keras class name.
_UNARY = ("Relu", "Relu6", "Sigmoid", "Silu", "HardSigmoid", "HardSilu", "Tanh", "Gelu", "Clip", "Cast")
_BINARY = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum")


@dataclass(frozen=True, eq=False, slots=True)
class Sliced:
    """One axis of a layer's weight (its index in `layer.weights`) that runs over channels."""

    weight: int
    axis: int
    numbers: Numbers


@dataclass(frozen=True, eq=False, slots=True)
class LayerFlow:
    """A layer with weights or a width that depend on its channels.

    `made` are the channels that it creates, None for a layer that only passes them on; `width` are those that
    its config counts. `mixed` is the axis along which the layer ends channels, if it does.
    """

    layer: Any
    slices: tuple[Sliced, ...]
    made: Numbers | None = None
    width: Numbers | None = None
    mixed: Sliced | None = None


@dataclass(frozen=True, eq=False, slots=True)
class CallFlow:
    """One call, with the channels of its inputs and of its output."""

    call: Call
    inputs: tuple[Numbers, ...]
    output: Numbers


@dataclass(frozen=True, eq=False, slots=True)
class Flow:
    """All `count` channels of a model: linked pairs, and locked channels with the reason."""

    model: keras.Model
    count: int
    layers: Mapping[str, LayerFlow]
    calls: Sequence[CallFlow]
    links: Sequence[tuple[Numbers, Numbers]]
    locks: Sequence[tuple[Numbers, str]]


def channel_flow(model: keras.Model) -> Flow:
    """Follows the channels of a flat functional model.

    It locks the channels of the image and of the outputs, and those of operations that are unknown or read
    all channels at once.
    """
    tracer = _Tracer()
    for call in calls_of(model):
        tracer.trace(call)
    ends = [
        (tracer.numbers[id(output)], "its channels are an output of the model") for output in model.outputs
    ]
    return Flow(model, tracer.count, tracer.layers, tracer.calls, tracer.links, ends + tracer.locks)


@dataclass(slots=True)
class _Tracer:
    """The channels found so far; `numbers` maps the id of a tensor to its channels."""

    count: int = 0
    numbers: dict[int, Numbers] = field(default_factory=dict)
    layers: dict[str, LayerFlow] = field(default_factory=dict)
    calls: list[CallFlow] = field(default_factory=list)
    links: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    locks: list[tuple[Numbers, str]] = field(default_factory=list)

    def trace(self, call: Call) -> None:
        inputs = [self.numbers[id(tensor)] for tensor in call.inputs]
        output = _handler(call)(self, call, inputs)
        for tensor in call.outputs:
            self.numbers[id(tensor)] = output
        self.calls.append(CallFlow(call, tuple(inputs), output))

    def fresh(self, count: int) -> Numbers:
        self.count += count
        return np.arange(self.count - count, self.count)

    def lock(self, numbers: Numbers, why: str) -> None:
        self.locks.append((numbers, why))

    def link(self, xs: Sequence[Numbers]) -> None:
        self.links += [(xs[0], x) for x in xs[1:]]

    def note(self, flow: LayerFlow) -> LayerFlow:
        """Records a layer; a second call of it links the channels of both calls through its weights."""
        known = self.layers.setdefault(flow.layer.name, flow)
        if known is not flow:
            self.links += [(a.numbers, b.numbers) for a, b in zip(known.slices, flow.slices, strict=True)]
            if known.width is not None and flow.width is not None:
                self.links.append((known.width, flow.width))
        return known


def _handler(call: Call) -> Handler:
    operation = call.operation
    if isinstance(operation, keras.layers.InputLayer):
        return _image
    found = _layers().get(type(operation))
    if found is not None:
        return found if _is_plain(operation) else _unknown
    if type(operation).__name__ == "Mean" and not isinstance(operation, keras.Layer):
        return _mean
    return _named(operation)


def _named(operation: Any) -> Handler:
    if type(operation).__name__ == "CustomScaleLayer":  # x + scale * y in Keras's Inception-ResNet
        return _combine
    if isinstance(operation, keras.Layer) or not type(operation).__module__.startswith("keras"):
        return _unknown
    if type(operation).__name__ in _UNARY:
        return _carry
    return _combine if type(operation).__name__ in _BINARY else _unknown


@functools.cache
def _layers() -> Mapping[type, Handler]:
    """The handler of each known layer class; subclasses may do anything, so they are unknown."""
    layers = keras.layers
    carrying = (*(getattr(layers, name) for name in _CARRYING), DropPath, DropBlock, NearestUpsample)
    combining = (*(getattr(layers, name) for name in _COMBINING), FastFusion)
    return {
        **dict.fromkeys(carrying, _carry),
        **dict.fromkeys(combining, _combine),
        **dict.fromkeys((layers.LayerNormalization, layers.GroupNormalization), _mixes_all),
        layers.Conv2D: _conv,
        layers.Dense: _conv,
        layers.Conv2DTranspose: _transposed,
        layers.DepthwiseConv2D: _depthwise,
        layers.SeparableConv2D: _separable,
        layers.BatchNormalization: _norm,
        BatchNormalization: _norm,
        layers.PReLU: _norm,
        layers.Rescaling: _rescale,
        layers.Softmax: _mixes_all,
        layers.Concatenate: _concat,
        layers.Flatten: _flatten,
        layers.Reshape: _reshape,
        ChannelSlice: _cut,
        Normalize: _mixes_all,
    }


def _is_plain(layer: Any) -> bool:
    """Whether a layer of a known class has channels last."""
    return getattr(layer, "data_format", "channels_last") in ("channels_last", None)


def _image(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    return _fixed(tracer, call, "they are the image's")


def _unknown(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    kind = type(call.operation).__name__
    why = f"its channels run through {call.operation.name!r}, and the effect of {kind} on channels is unknown"
    for numbers in inputs:
        tracer.lock(numbers, why)
    return _fixed(tracer, call, why)


def _fixed(tracer: _Tracer, call: Call, why: str) -> Numbers:
    """New channels that must not be removed."""
    shape = call.outputs[0].shape
    numbers = tracer.fresh(shape[-1] if shape and shape[-1] else 1)
    tracer.lock(numbers, why)
    return numbers


def _mixes_all(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    tracer.lock(inputs[0], f"{call.operation.name!r} mixes all its channels")
    return inputs[0]


def _carry(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    return _activated(tracer, call.operation, inputs[0])


def _activated(tracer: _Tracer, layer: Any, numbers: Numbers) -> Numbers:
    """The channels after a layer's activation; locked unless the activation is known to be pointwise."""
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "")
    is_known = function is None or getattr(keras.activations, name, None) is function
    if not is_known or name in _MIXING:
        tracer.lock(numbers, f"the activation of {layer.name!r} may look at all its channels at once")
    return numbers


def _combine(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    wide = max(inputs, key=len)
    tracer.link([numbers for numbers in inputs if len(numbers) == len(wide)])
    for numbers in inputs:
        if len(numbers) != len(wide):
            tracer.lock(numbers, f"{call.operation.name!r} spreads it over all channels")
    if not isinstance(call.operation, keras.Layer) and _has_constants(call):
        tracer.lock(wide, f"{call.operation.name!r} combines its channels with constants")
    return wide


def _has_constants(call: Call) -> bool:
    """Whether an operation has a constant argument with a value per channel."""
    given = keras.tree.flatten((call.arguments.args, call.arguments.kwargs))
    return any(
        not isinstance(one, keras.KerasTensor) and math.prod(np.shape(one)) > 1
        for one in given
        if hasattr(one, "shape")
    )


def _mean(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    rank = len(call.inputs[0].shape)
    axes = call.operation.axis
    axes = range(rank) if axes is None else np.atleast_1d(axes)
    if rank - 1 in [axis % rank for axis in axes]:
        return _unknown(tracer, call, inputs)
    return inputs[0]


def _conv(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    """Handles Conv2D with kernels (..., in, out) and Dense (in, out)."""
    rank = len(call.operation.kernel.shape)
    if getattr(call.operation, "groups", 1) > 1:
        tracer.lock(inputs[0], f"{call.operation.name!r} convolves its channels in groups")
        return _locked_made(tracer, call, inputs[0])
    return _mixing(tracer, call, Sliced(0, rank - 2, inputs[0]), (0, rank - 1))


def _locked_made(tracer: _Tracer, call: Call, numbers: Numbers) -> Numbers:
    made = _fixed(tracer, call, f"{call.operation.name!r} convolves in groups")
    tracer.note(LayerFlow(call.operation, (), made))
    return made


def _transposed(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    """Handles Conv2DTranspose; its kernel is (h, w, out, in)."""
    return _mixing(tracer, call, Sliced(0, 3, inputs[0]), (0, 2))


def _separable(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    """Handles a depthwise kernel (h, w, in, m) with a pointwise one (1, 1, in * m, out)."""
    repeated = np.repeat(inputs[0], call.operation.depth_multiplier)
    return _mixing(tracer, call, Sliced(0, 2, inputs[0]), (1, 3), (Sliced(1, 2, repeated),))


def _mixing(
    tracer: _Tracer, call: Call, ending: Sliced, made_on: tuple[int, int], more: tuple[Sliced, ...] = ()
) -> Numbers:
    """A layer that creates channels along `made_on` (weight, axis), each with one bias if it has biases."""
    layer = call.operation
    known = tracer.layers.get(layer.name)
    if known is None or known.made is None:
        made = tracer.fresh(call.outputs[0].shape[-1])
        _activated(tracer, layer, made)
    else:
        made = known.made
    slices = [ending, *more, Sliced(*made_on, made)]
    if layer.use_bias:
        slices.append(Sliced(made_on[0] + 1, 0, made))
    tracer.note(LayerFlow(layer, tuple(slices), made, width=made, mixed=ending))
    return made


def _depthwise(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    """Handles DepthwiseConv2D: kernel (h, w, in, m); output channel c * m + j reads input channel c."""
    layer = call.operation
    output = np.repeat(inputs[0], layer.depth_multiplier)
    slices = [Sliced(0, 2, inputs[0])] + ([Sliced(1, 0, output)] if layer.use_bias else [])
    tracer.note(LayerFlow(layer, tuple(slices)))
    return _activated(tracer, layer, output)


def _norm(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    """Handles weights over the last axis; weights over further axes do not scale channels."""
    layer = call.operation
    last = len(call.inputs[0].shape) - 1
    if getattr(layer, "axis", last) not in (-1, last):
        return _unknown(tracer, call, inputs)
    slices = [Sliced(index, len(one.shape) - 1, inputs[0]) for index, one in enumerate(layer.weights)]
    tracer.note(LayerFlow(layer, tuple(one for one in slices if _fits(layer, one))))
    return inputs[0]


def _fits(layer: Any, one: Sliced) -> bool:
    return layer.weights[one.weight].shape[one.axis] == len(one.numbers)


def _rescale(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    layer = call.operation
    return inputs[0] if np.ndim(layer.scale) == np.ndim(layer.offset) == 0 else _unknown(tracer, call, inputs)


def _concat(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    if call.operation.axis in (-1, len(call.inputs[0].shape) - 1):
        return np.concatenate(inputs)
    tracer.link(inputs)
    return inputs[0]


def _cut(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    tracer.lock(inputs[0], "its channels are cut into parts of fixed width")
    return inputs[0][call.operation.start : call.operation.stop]


def _flatten(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    values = call.outputs[0].shape[-1]
    return np.tile(inputs[0], values // len(inputs[0])) if values else _unknown(tracer, call, inputs)


def _reshape(tracer: _Tracer, call: Call, inputs: list[Numbers]) -> Numbers:
    """Handles Reshape: rows with one value per channel keep channels apart, and so does flattening."""
    before, shape = inputs[0], call.outputs[0].shape
    if shape[-1] == len(before):
        stated = before if call.operation.target_shape[-1] != -1 else None
        tracer.note(LayerFlow(call.operation, (), width=stated))
        return before
    is_flat = len(shape) == 2 and call.operation.target_shape[-1] == -1
    if is_flat:
        return _flatten(tracer, call, inputs)
    tracer.lock(before, f"{call.operation.name!r} makes rows of {shape[-1]} values of its channels")
    return _fixed(tracer, call, f"{call.operation.name!r} makes rows of fixed width")
