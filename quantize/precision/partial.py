"""Partial quantization: quantizes any choice of a model's layers, with ranges measured once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from effkeras.litert.flatbuffer import Operator, layer_of, multiply_adds, operators
from effkeras.litert.rewriting import share_constants, without_final_activation
from effkeras.support.errors import EffkerasError
from quantize.formats import find
from quantize.post_training.artifact import FloatParts, Quantized, finished
from quantize.post_training.backends import Rules, quantize_with_ai_edge, scope_of
from quantize.post_training.corrections import corrected
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import conversion_inputs, means_of, ranges_of
from quantize.post_training.ranges import Ranges
from quantize.precision.measurements import OutputError
from quantize.specs import Precision, PtqSpec


def conversions(graph: Iterable[Operator]) -> int:
    """The number of operators that convert between number formats."""
    return sum(op.name in ("QUANTIZE", "DEQUANTIZE") for op in graph)


def kept_precision(spec: PtqSpec) -> Precision:
    """The precision of layers that do not become int8."""
    return "float32" if spec.precision == "int8" else spec.precision


def check_can_mix(spec: PtqSpec) -> None:
    """Raises EffkerasError for a backend that cannot quantize only some layers."""
    if spec.backend != "ai-edge-quantizer":
        raise EffkerasError(
            f"the quantizer {spec.backend} cannot quantize some layers only, which a budget may ask for; "
            "use ai-edge-quantizer"
        )


@dataclass(frozen=True, eq=False, slots=True)
class Partial:
    """A float conversion with measured ranges, ready for partial quantization.

    `core` is the conversion without a final softmax: outputs are compared before it. `reference` holds the
    core's outputs.
    """

    parts: FloatParts
    options: PtqOptions
    pixels: Iterable[np.ndarray]
    ranges: Ranges | None
    core: bytes
    reference: OutputError
    layers: tuple[QuantizableLayer, ...]
    means: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray], compared: int
    ) -> Partial:
        """Measures ranges on all images, and the reference outputs on the first `compared`.

        Raises EffkerasError for a backend that cannot quantize only some layers.
        """
        check_can_mix(options.spec)
        pixels = list(pixels) if iter(pixels) is pixels else pixels
        ranges = ranges_of(parts, options, pixels) if options.format.needs_data else None
        core = without_final_activation(parts.flatbuffer)
        shown = conversion_inputs(parts, itertools.islice(pixels, compared))
        reference = OutputError.of(core, shown, parts.spec)
        made = operators(quantize_with_ai_edge(core, ranges, Rules(options.format)))
        quantized = [scope_of(op) for op in made if op.arithmetic in ("integer", "hybrid")]
        layers = tuple(quantizable_layers(operators(core), quantized))
        means = means_of(parts, options, pixels)
        return cls(parts, options, pixels, ranges, core, reference, layers, means)

    def only(self, scopes: tuple[str, ...] | None) -> bytes:
        """The core with only these operators quantized, and float inputs and outputs; None quantizes all."""
        return quantize_with_ai_edge(self.core, self.ranges, Rules(self.options.format, only=scopes))

    def only_whole(self, scopes: tuple[str, ...]) -> bytes:
        """The whole model with only these operators quantized, with float inputs and outputs."""
        rules = Rules(self.options.format, only=scopes)
        return self._finished(quantize_with_ai_edge(self.parts.flatbuffer, self.ranges, rules))

    def unquantized(self) -> bytes:
        """The float artifact, with float inputs and outputs."""
        return self._finished(self.parts.flatbuffer)

    def all_but(self, kept: Iterable[str]) -> Quantized:
        """The artifact with all layers quantized except those named in `kept`."""
        flatbuffer = share_constants(self._all_but(kept))
        if self.means:
            flatbuffer = corrected(self.parts.flatbuffer, flatbuffer, self.means)
        return finished(self.parts, self.options, flatbuffer)

    def bridges(self, kept: Iterable[str]) -> list[str]:
        """The layers without weights that share tensors with two or more kept layers."""
        touching = neighbours(operators(self.core), self.layers)
        names = set(kept)
        free = [layer.name for layer in self.layers if not layer.macs and layer.name not in names]
        return [name for name in free if len(touching[name] & names) > 1]

    def conversions(self, kept: Iterable[str]) -> int:
        """The number of operators in the artifact that convert between number formats."""
        return conversions(operators(self._all_but(kept)))

    def _all_but(self, kept: Iterable[str]) -> bytes:
        names = set(kept)
        scopes = tuple(scope for layer in self.layers if layer.name in names for scope in layer.scopes)
        rules = Rules(self.options.format, self.options.io, scopes, kept_precision(self.options.spec))
        return quantize_with_ai_edge(self.parts.flatbuffer, self.ranges, rules)

    def _finished(self, flatbuffer: bytes) -> bytes:
        options = dataclasses.replace(self.options, format=find("float32"), io="float32")
        return finished(self.parts, options, flatbuffer).flatbuffer


_OF_WEIGHTS = (
    "convolution",
    "depthwise",
    "separable_conv2d",
    "conv2d",
    "conv_transpose",
    "MatMul",
    "Tensordot",
)


@dataclass(frozen=True, slots=True)
class QuantizableLayer:
    """A Keras layer with its activation, and the layers without weights that only it feeds.

    A layer called on several maps counts as one layer per call. `scopes` are the names of its operators in
    `Rules`, `ops` their kinds, such as CONV_2D, `macs` the multiply-adds.
    """

    name: str
    scopes: tuple[str, ...]
    ops: tuple[str, ...]
    macs: int


def quantizable_layers(graph: Sequence[Operator], scopes: Iterable[str]) -> list[QuantizableLayer]:
    """The layers of a float graph, in the order of execution.

    Args:
        graph: all operators.
        scopes: the names of the operators that can be quantized; the others are ignored.
    """
    wanted = set(scopes)
    members: dict[str, list[Operator]] = {}
    owner: dict[int, str] = {}
    for block in _blocks([op for op in graph if scope_of(op) in wanted]):
        name = _owner_of(block, owner) or _call(block[0])
        members.setdefault(name, []).extend(block)
        owner |= {tensor.index: name for op in block for tensor in op.outputs}
    return list(_named(members))


def neighbours(graph: Sequence[Operator], layers: Iterable[QuantizableLayer]) -> dict[str, set[str]]:
    """For each layer, the layers that it shares a tensor with."""
    owner = {scope: layer.name for layer in layers for scope in layer.scopes}
    touching: dict[str, set[str]] = {name: set() for name in owner.values()}
    owned = [(owner[scope_of(op)], op) for op in graph if scope_of(op) in owner]
    makers = {tensor.index: name for name, op in owned for tensor in op.outputs}
    for name, op in owned:
        feeders = {makers.get(tensor.index, name) for tensor in op.inputs} - {name}
        touching[name] |= feeders
        for feeder in feeders:
            touching[feeder].add(name)
    return touching


def _blocks(graph: Iterable[Operator]) -> Iterable[list[Operator]]:
    """The operators of each call of a Keras layer."""
    blocks: dict[str, list[Operator]] = {}
    for op in graph:
        blocks.setdefault(_call(op), []).append(op)
    return blocks.values()


def _owner_of(block: Sequence[Operator], owner: dict[int, str]) -> str | None:
    """The layer that a block without weights belongs to: the only one that feeds it; else None."""
    if any(multiply_adds(op) for op in block):
        return None
    own = {tensor.index for op in block for tensor in op.outputs}
    fed = [
        tensor for op in block for tensor in op.inputs if not tensor.is_constant and tensor.index not in own
    ]
    feeders = {owner.get(tensor.index) for tensor in fed}
    return feeders.pop() if len(feeders) == 1 else None


def _call(op: Operator) -> str:
    """The call that an operator comes from; for an operator with weights, the call of their layer."""
    pieces = op.outputs[0].name.split(";")
    weighted = [piece for piece in pieces if any(_is_of_weights(part) for part in piece.split("/")[2:])]
    parts = (weighted or pieces)[0].split("/")
    return parts[1] if len(parts) > 1 else parts[0]


def _is_of_weights(part: str) -> bool:
    return part.rstrip("0123456789_").startswith(_OF_WEIGHTS)


def _named(members: dict[str, list[Operator]]) -> Iterator[QuantizableLayer]:
    layers = {call: layer_of(f"/{call}") for call in members}
    seen: dict[str, int] = {}
    shared = {layer for layer in layers.values() if list(layers.values()).count(layer) > 1}
    for call, ops in members.items():
        layer = layers[call]
        seen[layer] = seen.get(layer, 0) + 1
        name = f"{layer} #{seen[layer]}" if layer in shared else layer
        names = tuple(op.name for op in ops)
        yield QuantizableLayer(name, tuple(map(scope_of, ops)), names, sum(map(multiply_adds, ops)))
