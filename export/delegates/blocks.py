"""Cuts a .tflite into blocks, each a separate file that every delegate can run, and times them.

LiteRT's Python interface has no profiler, and XNNPACK runs a network as one operator. Timing ever longer
prefixes of a network would give small differences of noisy values. A block in its own file is measured
directly, with any delegate, also on a phone. This leaves out the cost of transitions between blocks; the
difference between the blocks' sum and the whole network shows how large that is.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from effkeras.definitions.definition import ModelSpec
from effkeras.litert.flatbuffer import SIGNATURE, Operator, TensorInfo, layer_of, multiply_adds, operators
from effkeras.litert.latency import Plan
from effkeras.litert.tiling import has_row_tiles
from effkeras.litert.tree import load_schema, pack, parse
from effkeras.support import results
from effkeras.support.errors import EffkerasError
from effkeras.support.measurements import WHOLE_NETWORK, BlockLatency, BlockShape, BlockTable, Latency
from export.delegates.delegate import TimingResult
from export.delegates.timing import Selection, time_all


@dataclass(frozen=True, eq=False, slots=True)
class BlockFile:
    """A block, and a .tflite that holds only this block."""

    shape: BlockShape
    flatbuffer: bytes


def cut(flatbuffer: bytes, spec: ModelSpec | None = None) -> list[BlockFile]:
    """The blocks of a network in the order of execution, each as a .tflite.

    A block is a run of consecutive operators whose layers' names share the first word, such as "stem" or
    "block3"; a second block of the same name gets a number.

    Args:
        flatbuffer: the network.
        spec: its definition, which has the block strings.

    Raises EffkerasError for a corrupt file, for one with several subgraphs, and for one computed in strips
    of rows, because a strip passes through several blocks before the next strip starts.
    """
    graph = operators(flatbuffer)
    if has_row_tiles(graph):
        raise EffkerasError(
            "the .tflite computes large maps in strips of rows, which go through several blocks at a time; "
            "for a table of blocks export the network with --for raw"
        )
    parsed = parse(flatbuffer)
    if len(parsed.subgraphs) > 1:
        raise EffkerasError(
            "a .tflite with several graphs cannot be cut into blocks; export the plain network"
        )
    stages = {} if spec is None else spec.network.block_strings()
    return [
        BlockFile(_shape(name, part, stages, _interface(part, graph, parsed)), _file(parsed, part, graph))
        for name, part in _parts(graph)
    ]


def _parts(graph: Sequence[Operator]) -> list[tuple[str, list[Operator]]]:
    counts: dict[str, int] = {}
    parts = []
    for word, group in itertools.groupby(graph, _word):
        counts[word] = counts.get(word, 0) + 1
        name = word if counts[word] == 1 else f"{word}#{counts[word]}"
        parts.append((name, list(group)))
    return parts


def _word(op: Operator) -> str:
    name = op.outputs[0].name if op.outputs else op.name
    return layer_of(name).split("_")[0] or op.name.lower()


@dataclass(frozen=True, slots=True)
class _PartInterface:
    """The inputs of a part of the graph, and those of its tensors that other parts or the outputs use."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def _interface(part: Sequence[Operator], graph: Sequence[Operator], parsed: Any) -> _PartInterface:
    made = {tensor.index: tensor for op in part for tensor in op.outputs}
    own = {op.index for op in part}
    entering = {t.index: t for op in part for t in op.inputs if not t.is_constant and t.index not in made}
    read = {t.index for op in graph if op.index not in own for t in op.inputs}
    read.update(int(index) for index in parsed.subgraphs[0].outputs)
    leaving = [tensor for index, tensor in made.items() if index in read]
    if not leaving:
        raise EffkerasError(f"the .tflite is damaged: nothing uses {part[0].name}; export the model again")
    return _PartInterface(tuple(entering.values()), tuple(leaving))


def _shape(
    name: str, part: Sequence[Operator], stages: dict[str, str], interface: _PartInterface
) -> BlockShape:
    return BlockShape(
        name,
        interface.outputs[0].dtype,
        tuple(tensor.shape for tensor in interface.inputs),
        tuple(tensor.shape for tensor in interface.outputs),
        len(part),
        sum(map(multiply_adds, part)),
        stages.get(name, ""),
    )


def _file(parsed: Any, part: Sequence[Operator], graph: Sequence[Operator]) -> bytes:
    schema = load_schema()
    source = parsed.subgraphs[0]
    interface = _interface(part, graph, parsed)
    nodes = [source.operators[op.index] for op in part]
    used = dict.fromkeys(int(i) for node in nodes for i in (*node.inputs, *node.outputs) if i >= 0)
    places = {old: new for new, old in enumerate(used)}
    model, made = schema.ModelT(), schema.SubGraphT()
    model.version, model.description, model.operatorCodes = 3, "", parsed.operatorCodes
    model.buffers = [schema.BufferT()]
    made.tensors = [_tensor(source.tensors[old], parsed.buffers, model.buffers) for old in used]
    made.operators = [_node(node, places) for node in nodes]
    made.inputs = [places[tensor.index] for tensor in interface.inputs]
    made.outputs = [places[tensor.index] for tensor in interface.outputs]
    model.subgraphs, model.signatureDefs = [made], [_signature(made)]
    return pack(model)


def _tensor(tensor: Any, buffers: Sequence[Any], kept: list[Any]) -> Any:
    """A copy of a tensor; if it is a constant, its data is appended to the buffers in `kept`."""
    twin = copy.copy(tensor)
    data = buffers[tensor.buffer].data
    twin.buffer = 0 if data is None else len(kept)
    if data is not None:
        kept.append(load_schema().BufferT(data=data))
    return twin


def _node(node: Any, places: dict[int, int]) -> Any:
    twin = copy.copy(node)
    twin.inputs = _moved(node.inputs, places)
    twin.outputs = _moved(node.outputs, places)
    return twin


def _moved(indices: Iterable[int], places: dict[int, int]) -> list[int]:
    """New tensor indices for old ones; -1 stands for an omitted optional input."""
    return [places.get(int(index), -1) for index in indices]


def _signature(graph: Any) -> Any:
    """A signature with names by position, because several tensors may share a name."""
    schema = load_schema()
    inputs = [schema.TensorMapT(f"input_{i}", index) for i, index in enumerate(graph.inputs)]
    outputs = [schema.TensorMapT(f"output_{i}", index) for i, index in enumerate(graph.outputs)]
    return schema.SignatureDefT(inputs, outputs, SIGNATURE, 0)


@dataclass(frozen=True, eq=False, slots=True)
class Network:
    """A network to time block by block: a .tflite, its names, and its definition if the file has one."""

    flatbuffer: bytes
    model: str
    artifact: str
    spec: ModelSpec | None = None


def time_blocks(network: Network, selection: Selection, plan: Plan) -> tuple[list[TimingResult], BlockTable]:
    """The latencies of the whole network on each delegate, and the table of its blocks.

    The network and all its blocks take turns. If a delegate cannot run a block by itself, the table omits
    the block under that setting.

    Raises EffkerasError for a corrupt file and for one that cannot be cut.
    """
    blocks = cut(network.flatbuffer, network.spec)
    names = [one.shape.name for one in blocks]
    whole, *parts = time_all([network.flatbuffer], selection, plan, [one.flatbuffer for one in blocks])
    return whole, _table(network, blocks, plan, [*zip(names, parts, strict=True), (WHOLE_NETWORK, whole)])


def _table(
    network: Network,
    blocks: Sequence[BlockFile],
    plan: Plan,
    results_by_block: Sequence[tuple[str, Sequence[TimingResult]]],
) -> BlockTable:
    timed = [(name, one) for name, found in results_by_block for one in found if isinstance(one, Latency)]
    environment = results.environment()
    return BlockTable(
        network.model,
        network.artifact,
        {one.kernels: _device(one, environment["machine"]["cpu"]) for _, one in timed},
        {"python": environment["python"], **environment["versions"]},
        plan.runs,
        tuple(one.shape for one in blocks),
        tuple(BlockLatency.of(name, one) for name, one in timed),
    )


def _device(latency: Latency, cpu: str) -> str:
    """The device of a latency: the phone's model and Android version, or else this machine's CPU."""
    phone = latency.details.get("phone")
    return f"{phone['model']}, Android {phone['android']}" if phone else cpu
