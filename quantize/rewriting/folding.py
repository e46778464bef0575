"""Folding: moves batch normalisation into the convolutions before it.

At inference `gamma * (x - mean) / sqrt(variance + epsilon) + beta` is one scale and one shift per channel,
which a convolution's kernel and bias can absorb (Jacob et al. 2018, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import Call
from effkeras.graph.rewrite import (
    Graph,
    StandIn,
    check_finite,
    key,
    passed_on,
    relative_errors,
    renewed,
    watched_rewrite,
    with_weights,
)
from quantize.report import Compressed, LayerReport, StepReport

STEP = "fold"
NORM = "BatchNormalization"
ERROR_IS = "error / std of the layer's output"

Array = np.ndarray
CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Dense,
)


def is_plain(layer: Any) -> bool:
    """Whether a layer's class is one of `CONVOLUTIONS`: a subclass may use its kernel differently."""
    return type(layer) in CONVOLUTIONS


@dataclass(frozen=True, eq=False, slots=True)
class Affine:
    """`scale * x + shift` per channel; float64 (C,) each."""

    scale: Array
    shift: Array

    @classmethod
    def of(cls, layer: keras.layers.BatchNormalization) -> Affine:
        """The scale and shift of a batch normalisation at inference."""
        mean, variance = (_float64(one) for one in (layer.moving_mean, layer.moving_variance))
        gamma = _float64(layer.gamma) if layer.scale else np.ones_like(mean)
        beta = _float64(layer.beta) if layer.center else np.zeros_like(mean)
        scale = gamma / np.sqrt(variance + layer.epsilon)
        return cls(scale, beta - mean * scale)

    def channels(self, start: int, stop: int) -> Affine:
        """The part for the channels `start` to `stop`."""
        return Affine(self.scale[start:stop], self.shift[start:stop])


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """A convolution's call and the batch normalisation that is folded into it.

    `name` is the name of the folded layer: that of the convolution, or, if one convolution is called on
    several maps with a normalisation each, one derived from the normalisation's.
    """

    call: Call
    affine: Affine
    norm: keras.layers.BatchNormalization
    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Folds:
    """What can be folded in a graph.

    `folds` is keyed by the convolution's call; `gone` are the calls of folded batch normalisations, `alone`
    those without a convolution to fold into, `skipped` those that stay, with the reason.
    """

    folds: Mapping[int, Fold]
    gone: tuple[Call, ...]
    alone: tuple[Call, ...]
    skipped: tuple[LayerReport, ...]


def fold(model: keras.Model, *, probe: Array | None = None) -> Compressed:
    """Removes all batch normalisation from a model; its outputs stay the same.

    A separable convolution becomes a depthwise and a 1x1 convolution. If several maps with a normalisation
    each share it, as in EfficientDet's heads, they share the depthwise convolution, and each map gets its own
    1x1 convolution. A normalisation that cannot be folded becomes a 1x1 depthwise convolution.

    Args:
        model: any functional Keras model with one input.
        probe: images (B, H, W, C) to measure each layer's error on.

    Returns:
        The new model without batch normalisation, and a report with an entry per normalisation.

    Raises:
        EffkerasError: the model is not functional, or weights are NaN or infinite.
    """
    check_finite(model)
    graph = Graph.of(model)
    found = find_folds(graph)
    emitter = _Emitter()
    plan: dict[int, StandIn] = {key(call): passed_on for call in found.gone}
    plan |= {one: emitter.folded(fold) for one, fold in found.folds.items()}
    plan |= {key(call): emitter.depthwise(call) for call in found.alone}
    plan |= {
        key(call): emitter.split(call.operation)
        for call in graph.calls
        if isinstance(call.operation, keras.layers.SeparableConv2D) and key(call) not in plan
    }
    norms = [*found.gone, *found.alone]
    folded, became = watched_rewrite(graph, plan, [call.outputs[0] for call in norms])
    errors: list[float | None] = [None] * len(norms)
    if probe is not None and norms:
        wanted = graph.model.input, [call.outputs[0] for call in norms]
        errors = list(relative_errors(probe, wanted, (folded.input, became)))
    layers = [_entry(found, call, error) for call, error in zip(norms, errors, strict=True)]
    return Compressed(folded, StepReport(STEP, (*layers, *found.skipped), ERROR_IS))


def find_folds(graph: Graph) -> Folds:
    """Finds the convolutions that each batch normalisation can be folded into."""
    folds: dict[int, Fold] = {}
    gone, alone, skipped = [], [], []
    for call in graph.calls:
        layer = call.operation
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        why, found = _unfit(call), _folds_into(graph, call)
        if found and not why:
            folds |= {key(fold.call): fold for fold in found}
            gone.append(call)
        elif why or len(call.inputs[0].shape) != 4:
            why = why or "no dense layer used only here comes before it"
            skipped.append(LayerReport(layer.name, NORM, "skipped", why))
        else:
            alone.append(call)
    return Folds(folds, tuple(gone), tuple(alone), tuple(skipped))


def scaled_kernel(layer: keras.Layer, kernel: Array, scale: Array) -> Array:
    """A convolution's kernel with each output channel multiplied by its `scale`.

    For a separable convolution, `kernel` is the 1x1 kernel (1, 1, C, filters).
    """
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return kernel * scale.reshape(kernel.shape[2:])
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return kernel * scale[:, None]
    return kernel * scale


def split_separable(layer: keras.layers.SeparableConv2D) -> tuple[keras.Layer, keras.Layer]:
    """A separable convolution as a depthwise and a 1x1 convolution with bias, both not built yet."""
    depthwise = keras.layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        name=f"{layer.name}_depthwise",
    )
    pointwise = keras.layers.Conv2D(layer.filters, 1, activation=layer.activation, name=layer.name)
    return depthwise, pointwise


def is_linear(layer: keras.Layer) -> bool:
    """Whether a layer has no activation of its own."""
    return getattr(layer, "activation", None) in (None, keras.activations.linear)


def bias_of(layer: keras.Layer) -> Array:
    """A layer's bias, float64, one value per output channel; zeros if it has none."""
    if layer.use_bias:
        return _float64(layer.bias)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return np.zeros(np.prod(layer.kernel.shape[2:]))
    return np.zeros(layer.units if isinstance(layer, keras.layers.Dense) else layer.filters)


class _Emitter:
    """Makes the layers of a folded model, each once."""

    def __init__(self) -> None:
        self._made: dict[Any, StandIn] = {}

    def folded(self, fold: Fold) -> StandIn:
        """The convolution with the normalisation in its kernel and bias."""
        return self._once((id(fold.call.operation), fold.name), lambda: self._folded(fold))

    def depthwise(self, call: Call) -> StandIn:
        """A batch normalisation as a 1x1 depthwise convolution."""
        layer, affine = call.operation, Affine.of(call.operation)
        conv = keras.layers.DepthwiseConv2D(1, name=layer.name)
        return self._once(
            id(layer), lambda: with_weights(conv, affine.scale[None, None, :, None], affine.shift)
        )

    def split(self, layer: keras.layers.SeparableConv2D) -> StandIn:
        """A separable convolution without a normalisation to fold, as two layers."""

        def make() -> StandIn:
            pointwise = with_weights(
                split_separable(layer)[1], _float64(layer.pointwise_kernel), bias_of(layer)
            )
            return _after(self._filter(layer), pointwise)

        return self._once(id(layer), make)

    def _filter(self, layer: keras.layers.SeparableConv2D) -> StandIn:
        """The depthwise half, which all calls of a separable convolution share."""
        kernel = _float64(layer.depthwise_kernel)
        return self._once(("filter", id(layer)), lambda: with_weights(split_separable(layer)[0], kernel))

    def _folded(self, fold: Fold) -> StandIn:
        layer, affine = fold.call.operation, fold.affine
        bias = bias_of(layer) * affine.scale + affine.shift
        if isinstance(layer, keras.layers.SeparableConv2D):
            pointwise = renewed(split_separable(layer)[1], name=fold.name)
            kernel = scaled_kernel(layer, _float64(layer.pointwise_kernel), affine.scale)
            return _after(self._filter(layer), with_weights(pointwise, kernel, bias))
        kernel = scaled_kernel(layer, _float64(layer.kernel), affine.scale)
        return with_weights(renewed(layer, name=fold.name, use_bias=True), kernel, bias)

    def _once(self, what: Any, make: Callable[[], StandIn]) -> StandIn:
        if what not in self._made:
            self._made[what] = make()
        return self._made[what]


def _folds_into(graph: Graph, norm: Call) -> list[Fold]:
    """The folds of a normalisation into all convolutions before it; none if one of them cannot be folded."""
    layer = norm.operation
    affine = Affine.of(layer)
    found: list[Fold] = []
    for start, part in _parts(graph, norm.inputs[0]):
        call = graph.maker(part)
        if graph.only_user(call) is None or not _takes(call.operation):
            return []
        name = _name(graph, call, norm) + (f"_{start}" if start and _is_shared(graph, call) else "")
        found.append(Fold(call, affine.channels(start, start + part.shape[-1]), layer, name))
    return found


def _parts(graph: Graph, x: Any, start: int = 0) -> Iterator[tuple[int, Any]]:
    """The maps that are concatenated to `x` only, each with its first channel in `x`."""
    call = graph.maker(x)
    if not _joins_channels(call.operation, x) or graph.only_user(call) is None:
        yield start, x
        return
    for part in call.inputs:
        yield from _parts(graph, part, start)
        start += part.shape[-1]


def _takes(layer: Any) -> bool:
    return is_plain(layer) and is_linear(layer)


def _name(graph: Graph, call: Call, norm: Call) -> str:
    if _is_shared(graph, call):
        return f"{norm.operation.name.removesuffix('_bn')}_conv"
    return call.operation.name


def _is_shared(graph: Graph, call: Call) -> bool:
    return len(graph.calls_with(call.operation)) > 1


def _unfit(call: Call) -> str:
    """Why a normalisation cannot be folded; empty if it can."""
    layer, rank = call.operation, len(call.inputs[0].shape)
    axis = layer.axis if isinstance(layer.axis, int) else -1
    return "" if axis % rank == rank - 1 else f"it normalises axis {axis}, not the channels"


def _entry(found: Folds, norm: Call, error: float | None) -> LayerReport:
    into = [fold.name for fold in found.folds.values() if fold.norm is norm.operation]
    why = (
        f"into {', '.join(into)}"
        if into
        else "as a 1x1 depthwise convolution: no convolution before it can absorb it"
    )
    return LayerReport(norm.operation.name, NORM, "done", why, error)


def _joins_channels(layer: Any, x: Any) -> bool:
    return isinstance(layer, keras.layers.Concatenate) and layer.axis % len(x.shape) == len(x.shape) - 1


def _after(first: StandIn, second: StandIn) -> StandIn:
    return lambda x: second(first(x))


def _float64(weight: Any) -> Array:
    return keras.ops.convert_to_numpy(weight).astype(np.float64)
