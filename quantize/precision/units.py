"""What a network is divided into when some of it is quantized: Keras layers, as operators of the .tflite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from effkeras.litert.costs import multiply_adds
from effkeras.litert.flatbuffer import Operator, layer_of
from quantize.post_training.ai_edge import scope_of

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
class Unit:
    """A Keras layer with what belongs to it: its activation, and layers without weights that only it feeds.

    A layer called on several maps is a unit for each call. `scopes` are the names by which rules know the
    operators, `ops` what they are, such as CONV_2D, `macs` the multiply-adds.
    """

    name: str
    scopes: tuple[str, ...]
    ops: tuple[str, ...]
    macs: int


def units_of(graph: Sequence[Operator], scopes: Iterable[str]) -> list[Unit]:
    """The units of a float graph, in the order of execution.

    Args:
        graph: all operators.
        scopes: which of them count: those that can be quantized.
    """
    wanted = set(scopes)
    members: dict[str, list[Operator]] = {}
    home: dict[int, str] = {}
    for block in _blocks([op for op in graph if scope_of(op) in wanted]):
        name = _home_of(block, home) or _call(block[0])
        members.setdefault(name, []).extend(block)
        home |= {tensor.index: name for op in block for tensor in op.outputs}
    return list(_named(members))


def neighbours(graph: Sequence[Operator], units: Iterable[Unit]) -> dict[str, set[str]]:
    """The units that each unit shares a tensor with."""
    home = {scope: unit.name for unit in units for scope in unit.scopes}
    touching: dict[str, set[str]] = {name: set() for name in home.values()}
    owned = [(home[scope_of(op)], op) for op in graph if scope_of(op) in home]
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


def _home_of(block: Sequence[Operator], home: dict[int, str]) -> str | None:
    """The unit that a block without weights joins: the only one that feeds it."""
    if any(multiply_adds(op) for op in block):
        return None
    own = {tensor.index for op in block for tensor in op.outputs}
    fed = [
        tensor for op in block for tensor in op.inputs if not tensor.is_constant and tensor.index not in own
    ]
    feeders = {home.get(tensor.index) for tensor in fed}
    return feeders.pop() if len(feeders) == 1 else None


def _call(op: Operator) -> str:
    """The call that an operator comes from: with weights, the layer that they are of."""
    pieces = op.outputs[0].name.split(";")
    weighted = [piece for piece in pieces if any(_is_of_weights(part) for part in piece.split("/")[2:])]
    parts = (weighted or pieces)[0].split("/")
    return parts[1] if len(parts) > 1 else parts[0]


def _is_of_weights(part: str) -> bool:
    return part.rstrip("0123456789_").startswith(_OF_WEIGHTS)


def _named(members: dict[str, list[Operator]]) -> Iterator[Unit]:
    layers = {call: layer_of(f"/{call}") for call in members}
    seen: dict[str, int] = {}
    shared = {layer for layer in layers.values() if list(layers.values()).count(layer) > 1}
    for call, ops in members.items():
        layer = layers[call]
        seen[layer] = seen.get(layer, 0) + 1
        name = f"{layer} #{seen[layer]}" if layer in shared else layer
        names = tuple(op.name for op in ops)
        yield Unit(name, tuple(map(scope_of, ops)), names, sum(map(multiply_adds, ops)))
