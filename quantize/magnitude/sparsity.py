"""Statistics of a model's weights: zeros, sizes in bytes, and the change against the weights before."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from effkeras.graph.rewrite import Graph
from effkeras.layers.fake_quant_kernels import network_weights
from effkeras.support.console import track
from quantize.magnitude.patterns import UNSTRUCTURED, Pattern, parse_pattern
from quantize.magnitude.selection import kernel_layers

# Models with more weights show a progress bar while packing.
_LARGE = 10_000_000


@dataclass(frozen=True, slots=True)
class KernelSparsity:
    """The zeros in one kernel of the layer `layer` of class `kind`.

    `name` is the kernel's name, such as "kernel" or "pointwise_kernel"; `follows` tells whether the kernel
    follows the pattern of `sparsity_of`.
    """

    layer: str
    kind: str
    name: str
    weights: int
    zeros: int
    follows: bool

    @property
    def share(self) -> float:
        """The share of zeros."""
        return self.zeros / self.weights


@dataclass(frozen=True, slots=True)
class Sparsity:
    """The zeros in a model: by kernel, and among all weights, including biases and statistics.

    The ranges and masks of fake quantization are not weights of the network.
    """

    kernels: tuple[KernelSparsity, ...]
    weights: int
    zeros: int

    @property
    def share(self) -> float:
        """The share of zeros among all weights."""
        return self.zeros / self.weights if self.weights else 0.0

    def kernel(self, layer: str, name: str = "kernel") -> KernelSparsity:
        """One kernel; raises KeyError if there is none with these names."""
        return {(one.layer, one.name): one for one in self.kernels}[layer, name]


def sparsity_of(model: keras.Model, pattern: str = UNSTRUCTURED) -> Sparsity:
    """Counts the zeros of any functional model.

    Args:
        model: the model; layers of nested models are included.
        pattern: the pattern that each kernel is checked against, such as "2:4" or "1x4".

    Raises:
        EffkerasError: the model is not functional, or the pattern is unknown.
    """
    rule, graph = parse_pattern(pattern), Graph.of(model)
    own = {id(weight) for weight in network_weights(graph.model)}
    kernels = [
        _kernel(layer, weight, rule)
        for layer in kernel_layers(graph)
        for weight in layer.weights
        if len(weight.shape) >= 2 and id(weight) in own and weight.name != "bias"
    ]
    values = [_array(weight) for weight in network_weights(model)]
    return Sparsity(tuple(kernels), sum(one.size for one in values), sum(map(_zeros, values)))


def stored_sizes(model: keras.Model) -> Mapping[str, float]:
    """The bytes of all weights in float32, uncompressed and compressed by DEFLATE as in gzip."""
    packer = zlib.compressobj()
    plain = packed = 0
    is_large = model.count_params() > _LARGE
    for weight in track(model.weights, "packing") if is_large else model.weights:
        content = _array(weight).astype(np.float32).tobytes()
        plain += len(content)
        packed += len(packer.compress(content))
    return {"bytes": plain, "gzipped_bytes": packed + len(packer.flush())}


def _kernel(layer: keras.Layer, weight: keras.Variable, rule: Pattern) -> KernelSparsity:
    values = _array(weight)
    counts = values.size, _zeros(values)
    return KernelSparsity(layer.name, type(layer).__name__, weight.name, *counts, rule.follows(values))


def _zeros(values: np.ndarray) -> int:
    return int(values.size - np.count_nonzero(values))


def _array(weight: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(weight)


def relative_change(before: np.ndarray, after: np.ndarray) -> float:
    """The norm of the difference as a share of the norm of `before`; 0 if that norm is 0."""
    norm = np.linalg.norm(before.astype(np.float64))
    change = np.linalg.norm(after.astype(np.float64) - before)
    return float(change / norm) if norm else 0.0
