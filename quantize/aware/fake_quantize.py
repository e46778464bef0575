"""Makes the layers of a fake-quantized model, each once, in place of the original layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.functional import Call
from effkeras.graph.rewrite import Graph, StandIn, key, passed_on
from effkeras.layers import FastFusion, NearestUpsample
from effkeras.layers.fake_quant import (
    FakeQuant,
    FakeQuantFusion,
    FakeQuantHardSigmoid,
    FakeQuantSum,
    FakeQuantSwish,
)
from effkeras.layers.fake_quant_kernels import (
    FakeQuantConv2D,
    FakeQuantConv2DTranspose,
    FakeQuantDense,
    FakeQuantDepthwiseConv2D,
    FakeQuantKernel,
)
from quantize.aware.placement import (
    RELU6,
    Group,
    Placement,
    Spot,
    activation_name,
    activation_of,
    class_name,
    is_standalone,
)
from quantize.magnitude.kmeans import clusters_of
from quantize.rewriting.folding import Affine, Folds, bias_of, split_separable
from quantize.specs import QatSpec

Array = np.ndarray
KINDS: Mapping[type, Any] = {
    keras.layers.Conv2D: FakeQuantConv2D,
    keras.layers.DepthwiseConv2D: FakeQuantDepthwiseConv2D,
    keras.layers.Conv2DTranspose: FakeQuantConv2DTranspose,
    keras.layers.Dense: FakeQuantDense,
}
# Activations that LiteRT fuses into a convolution.
_FUSED = ("linear", "relu", "relu6")
_MOST_CLUSTERS = 256


@dataclass(frozen=True, eq=False, slots=True)
class Kernel:
    """A kernel with its scale and bias, each (branches, channels); the bias is None if there is none."""

    values: Array
    branches: tuple[str, ...]
    scale: Array
    bias: Array | None


@dataclass(frozen=True, eq=False, slots=True)
class Source:
    """The input of fake quantization: a graph, its folds, the settings, and kernels `left` in float."""

    graph: Graph
    folds: Folds
    placement: Placement
    spec: QatSpec
    left: frozenset[str]


def has_kernel(layer: Any) -> bool:
    """Whether a layer's kernel can be fake-quantized; a subclass may use its kernel differently."""
    return type(layer) in KINDS or type(layer) is keras.layers.SeparableConv2D


class Emitter:
    """Makes the layers of a fake-quantized model."""

    def __init__(self, source: Source):
        self._source = source
        self._made: dict[Any, Any] = {}
        self._names = {call.operation.name for call in source.graph.calls}
        self.kernels: list[FakeQuantKernel] = []

    def plan(self) -> dict[int, StandIn]:
        """Replacements for all calls that change."""
        folds = self._source.folds
        plan = {key(call): self._stand_in(call) for call in self._source.graph.calls}
        plan |= {key(call): passed_on for call in folds.gone}
        plan |= {key(call): self._scaling(call) for call in folds.alone}
        return {one: stand_in for one, stand_in in plan.items() if stand_in is not None}

    def after(self, call: Call, result: Any) -> Any:
        """A call's result, fake-quantized where the placement requires it."""
        spots = self._source.placement.spots
        flat = keras.tree.flatten(result)
        rounded = [
            self._rounded(x, spots[id(output)]) if id(output) in spots else x
            for x, output in zip(flat, call.outputs, strict=True)
        ]
        return keras.tree.pack_sequence_as(result, rounded)

    def _rounded(self, x: Any, spot: Spot) -> Any:
        layer = self._once(id(spot.group), lambda: self._range_of(spot.group))
        if spot.branch is None:
            return layer(x, observe=False)
        return layer(x, branch=spot.branch) if spot.branch else layer(x)

    def _range_of(self, group: Group) -> FakeQuant:
        if group.extent is not None:
            return FakeQuant(group.branches, "fixed", extent=group.extent, name=self._unique(group.name))
        made = self._range(group.name, group.branches)
        if group.is_output and made.mode == "ema":
            # The largest outputs are the surest predictions: an averaged range would clip them to one value.
            made.mode = "all"
        return made

    def _range(self, name: str, branches: int = 1) -> FakeQuant:
        spec = self._source.spec
        return FakeQuant(branches, spec.ranges, spec.momentum, name=self._unique(name))

    def _stand_in(self, call: Call) -> StandIn | None:
        layer = call.operation
        if type(layer) in KINDS:
            return self._convolution(call)
        if type(layer) is keras.layers.SeparableConv2D:
            return self._separable(call)
        if type(layer) is FastFusion:
            return self._once(id(layer), lambda: self._fusion(call))
        if class_name(layer) == "Add" and isinstance(layer, keras.layers.Layer) and len(call.inputs) > 2:
            return self._once(id(layer), lambda: FakeQuantSum(*self._how(), name=layer.name))
        if _doubles(layer):
            size = call.outputs[0].shape[1:3]
            return self._once(id(layer), lambda: NearestUpsample(*size, name=layer.name))
        return self._activation(call, activation_of(layer), layer.name)

    def _activation(self, call: Call, kind: str | None, name: str) -> StandIn | None:
        if kind == "silu":
            return self._once(("act", name), lambda: FakeQuantSwish(name=name))
        if kind == "hard_sigmoid":
            return self._once(("act", name), lambda: FakeQuantHardSigmoid(name=name))
        if kind == "relu6" and is_standalone(self._source.graph, self._source.folds, call):
            return self._clipped(call, name)
        return None

    def _clipped(self, call: Call, name: str) -> StandIn:
        """A standalone ReLU6: a ReLU whose range ends at 6."""
        relu = self._once(("act", name), lambda: keras.layers.ReLU(name=name))
        spot = self._source.placement.spots[key(call)]
        if spot.group.extent == RELU6:
            return relu
        cut = FakeQuant(1, "fixed", extent=RELU6, name=self._unique(f"{name}_cut"))
        return lambda x: cut(relu(x))

    def _convolution(self, call: Call) -> StandIn:
        shape = call.inputs[0].shape
        made = self._once(
            id(call.operation), lambda: self._kernel_layer(call.operation, self._kernel(call), shape)
        )
        return self._activated(call, self._branch(made, call))

    def _separable(self, call: Call) -> StandIn:
        layer = call.operation
        halves = self._once(id(layer), lambda: self._halves(call))
        between = self._range(f"{layer.name}_depthwise_range")
        pointwise = self._branch(halves[1], call)
        return self._activated(call, lambda x: pointwise(between(halves[0](x))))

    def _halves(self, call: Call) -> tuple[FakeQuantKernel, FakeQuantKernel]:
        """A separable convolution as a depthwise and a 1x1 convolution."""
        layer, shape = call.operation, call.inputs[0].shape
        depthwise, pointwise = split_separable(layer)
        values = _numbers(layer.depthwise_kernel)
        channels = int(np.prod(values.shape[2:]))
        first = self._kernel_layer(depthwise, Kernel(values, ("",), np.ones((1, channels)), None), shape)
        second = self._kernel_layer(pointwise, self._kernel(call), (*shape[:-1], channels))
        return first, second

    def _scaling(self, call: Call) -> StandIn:
        """A batch normalisation that cannot be folded, as a 1x1 depthwise convolution."""
        layer, affine = call.operation, Affine.of(call.operation)
        values = affine.scale[None, None, :, None]
        kernel = Kernel(values, (layer.name,), np.ones((1, len(affine.scale))), affine.shift[None])
        conv = keras.layers.DepthwiseConv2D(1, name=layer.name)
        return self._once(id(layer), lambda: self._kernel_layer(conv, kernel, call.inputs[0].shape))

    def _activated(self, call: Call, convolution: StandIn) -> StandIn:
        """A convolution, with its activation as a separate layer if LiteRT does not fuse it."""
        layer = call.operation
        kind = activation_name(layer.activation)
        if kind in _FUSED:
            return convolution
        name = f"{layer.name}_{kind}"
        made = self._activation(call, kind, name)
        act = made or self._once(("act", name), lambda: keras.layers.Activation(layer.activation, name=name))
        between = self._range(f"{layer.name}_linear_range")
        return lambda x: act(between(convolution(x)))

    def _branch(self, layer: FakeQuantKernel, call: Call) -> StandIn:
        index = layer.branches.index(self._branch_name(call))
        return (lambda x: layer(x, branch=index)) if index else layer  # type: ignore[operator,return-value]

    def _branch_name(self, call: Call) -> str:
        fold = self._source.folds.folds.get(key(call))
        return fold.name if fold else call.operation.name

    def _kernel(self, call: Call) -> Kernel:
        """A convolution's kernel with the scale and bias of each of its branches."""
        layer = call.operation
        values = getattr(layer, "pointwise_kernel", None)
        bias = bias_of(layer)
        affines: dict[str, Affine] = {}
        folds = self._source.folds.folds
        for one in self._source.graph.calls_with(layer):
            plain = Affine(np.ones_like(bias), np.zeros_like(bias))
            affines[self._branch_name(one)] = folds[key(one)].affine if key(one) in folds else plain
        scale = np.stack([one.scale for one in affines.values()])
        shift = np.stack([one.shift for one in affines.values()])
        biased = layer.use_bias or any(key(one) in folds for one in self._source.graph.calls_with(layer))
        return Kernel(
            _numbers(layer.kernel if values is None else values),
            tuple(affines),
            scale,
            bias * scale + shift if biased else None,
        )

    def _kernel_layer(self, layer: keras.Layer, kernel: Kernel, shape: Any) -> FakeQuantKernel:
        config = {**layer.get_config(), "dtype": "float32", **self._special(layer, kernel)}
        if activation_name(layer.activation) not in _FUSED:
            config["activation"] = None
        made = KINDS[type(layer)].from_config(config)
        made.build(shape)
        _fill(made, kernel)
        self.kernels.append(made)
        return made

    def _special(self, layer: keras.Layer, kernel: Kernel) -> dict[str, Any]:
        """The config entries of a fake-quantized layer that the plain layer lacks."""
        spec, values = self._source.spec, kernel.values
        return {
            "branches": kernel.branches,
            "biased": kernel.bias is not None,
            "quantized": layer.name not in self._source.left,
            "masked": spec.keep_zeros and bool((values == 0).any()),
            "clusters": _clusters(values) if spec.keep_clusters else 0,
        }

    def _fusion(self, call: Call) -> FakeQuantFusion:
        made = FakeQuantFusion(*self._how(), name=call.operation.name)
        made.build([one.shape for one in call.inputs])
        for new, old in zip(made.scalars, call.operation.scalars, strict=True):
            new.assign(old)
        return made

    def _how(self) -> tuple[Any, float]:
        return self._source.spec.ranges, self._source.spec.momentum

    def _once(self, what: Any, make: Callable[[], Any]) -> Any:
        if what not in self._made:
            self._made[what] = make()
        return self._made[what]

    def _unique(self, name: str) -> str:
        found, count = name, 2
        while found in self._names:
            found, count = f"{name}_{count}", count + 1
        self._names.add(found)
        return found


def _fill(layer: Any, kernel: Kernel) -> None:
    layer.kernel.assign(kernel.values)
    layer.scale.assign(kernel.scale)
    if kernel.bias is not None:
        layer.biases.assign(kernel.bias)
    if layer.masked:
        layer.mask.assign(kernel.values != 0)
    if layer.clusters:
        layer.assignment.assign(clusters_of(kernel.values).assignment)


def _clusters(values: Array) -> int:
    """The number of distinct values in a clustered kernel; 0 for a kernel that is not clustered."""
    count = len(clusters_of(values).centroids)
    return count if 1 < count <= min(_MOST_CLUSTERS, values.size // 2) else 0


def _doubles(layer: Any) -> bool:
    """Whether a layer is a nearest upsampling by 2; Keras computes it by tiling, which int8 lacks."""
    return (
        type(layer) is keras.layers.UpSampling2D
        and layer.interpolation == "nearest"
        and tuple(layer.size) == (2, 2)
    )


def _numbers(weight: Any) -> Array:
    return keras.ops.convert_to_numpy(weight).astype(np.float64)
