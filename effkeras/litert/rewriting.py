"""Rewrites a .tflite: metadata entries, names, number formats, constants and outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from effkeras.litert.archive import append_files, read_files
from effkeras.litert.flatbuffer import SIGNATURE, quantization_of, tensor_info
from effkeras.litert.tree import code_index, code_name, dtype_name, load_schema, pack, parse, text_of
from effkeras.litert.verify import stored_bytes, verified
from effkeras.support.errors import EffkerasError


def attach(model: bytes, name: str, payload: bytes) -> bytes:
    """Stores `payload` in the file's metadata table under `name`; replaces an older entry.

    Other entries, associated files behind the flatbuffer and the network do not change.
    """
    return attach_all(model, {name: payload})


def attach_all(model: bytes, payloads: dict[str, bytes]) -> bytes:
    """Like `attach` for several entries, in one rewrite of the file."""
    schema = load_schema()
    parsed = parse(model)
    in_use = {tensor.buffer for graph in parsed.subgraphs for tensor in graph.tensors}
    kept = []
    for entry in parsed.metadata or []:
        if text_of(entry.name) not in payloads:
            kept.append(entry)
        elif entry.buffer not in in_use:
            parsed.buffers[entry.buffer] = schema.BufferT()
    for name, payload in payloads.items():
        kept.append(schema.MetadataT(name=name, buffer=len(parsed.buffers)))
        parsed.buffers.append(schema.BufferT(data=np.frombuffer(payload, np.uint8)))
    parsed.metadata = kept
    return append_files(pack(parsed), read_files(model))


def attached(model: bytes, name: str) -> bytes | None:
    """The payload that `attach` stored under `name`, or None."""
    record = verified(model)
    for entry in record.get("metadata", []):
        if entry.get("name", "") == name:
            return stored_bytes(model, record["buffers"][entry.get("buffer", 0)])
    return None


def name_interface(model: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Names the graph's inputs and outputs, in their order, and writes the signature `serving_default`."""
    schema = load_schema()
    parsed = parse(model)
    graph = parsed.subgraphs[0]

    def named(indices: Sequence[int], names: Sequence[str]) -> list[Any]:
        for index, name in zip(indices, names, strict=True):
            graph.tensors[index].name = name
        pairs = zip(indices, names, strict=True)
        return [schema.TensorMapT(name=name, tensorIndex=index) for index, name in pairs]

    entry = schema.SignatureDefT(named(graph.inputs, inputs), named(graph.outputs, outputs), SIGNATURE, 0)
    parsed.signatureDefs = [entry]
    return pack(parsed)


def with_uint8_io(model: bytes) -> bytes:
    """Gives an int8 model uint8 inputs and outputs, with bit-equal results.

    Every int8 input and output gets a UINT8 twin whose zero point is 128 higher, and a QUANTIZE
    between the two; the signature points to the twins. Raises EffkerasError if the input is not int8.
    """
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    schema = load_schema()
    if any(graph.tensors[index].type != schema.TensorType.INT8 for index in graph.inputs):
        raise EffkerasError("only a model with int8 input can be given a uint8 input; use --io int8 first")
    code = code_index(parsed, schema.BuiltinOperator.QUANTIZE)
    for position, index in enumerate(list(graph.inputs)):
        twin = _uint8_twin(parsed, index)
        graph.inputs[position] = twin
        graph.operators.insert(0, schema.OperatorT(opcodeIndex=code, inputs=[twin], outputs=[index]))
    for position, index in enumerate(list(graph.outputs)):
        if graph.tensors[index].type == schema.TensorType.INT8:
            twin = _uint8_twin(parsed, index)
            graph.outputs[position] = twin
            graph.operators.append(schema.OperatorT(opcodeIndex=code, inputs=[index], outputs=[twin]))
    return pack(parsed)


def with_constants(model: bytes, values: Mapping[int, np.ndarray]) -> bytes:
    """Replaces the values of some constant tensors of the main graph, by tensor index.

    Tensors that shared a buffer with a changed one keep their values. Raises EffkerasError if a shape or
    number format differs from the tensor's, or the tensor is not a constant.
    """
    schema = load_schema()
    parsed = parse(model)
    tensors = parsed.subgraphs[0].tensors
    users = Counter(tensor.buffer for graph in parsed.subgraphs for tensor in graph.tensors)
    for index, value in values.items():
        info = tensor_info(index, tensors[index], parsed.buffers)
        if not info.is_constant or (value.shape, str(value.dtype)) != (info.shape, info.dtype):
            raise EffkerasError(f"{info.name} cannot become {value.dtype} {value.shape}: it is {info}")
        buffer = schema.BufferT(data=np.frombuffer(value.tobytes(), np.uint8))
        if users[tensors[index].buffer] == 1:
            parsed.buffers[tensors[index].buffer] = buffer
            continue
        users[tensors[index].buffer] -= 1
        tensors[index].buffer = len(parsed.buffers)
        parsed.buffers.append(buffer)
    return pack(parsed)


def with_outputs(model: bytes, indices: Iterable[int]) -> bytes:
    """Adds tensors of the main graph to its outputs, after the existing ones.

    An interpreter keeps the values of outputs, but reuses the memory of other tensors.
    """
    parsed = parse(model)
    outputs = list(map(int, parsed.subgraphs[0].outputs))
    parsed.subgraphs[0].outputs = [*outputs, *(index for index in indices if index not in outputs)]
    return pack(parsed)


def without_final_activation(model: bytes) -> bytes:
    """Removes a softmax or sigmoid directly before an output, so that the file returns logits."""
    parsed = parse(model)
    graph = parsed.subgraphs[0]
    names = [code_name(code) for code in parsed.operatorCodes]
    for op in list(graph.operators):
        if names[op.opcodeIndex] not in ("SOFTMAX", "LOGISTIC") or not (op.inputs and op.outputs):
            continue
        output = op.outputs[0]
        if output in graph.outputs and not any(output in (other.inputs or ()) for other in graph.operators):
            graph.operators.remove(op)
            graph.outputs = [op.inputs[0] if index == output else index for index in graph.outputs]
            _repoint(parsed, output, op.inputs[0])
    return pack(parsed)


def _uint8_twin(parsed: Any, index: int) -> int:
    schema = load_schema()
    graph = parsed.subgraphs[0]
    original = graph.tensors[index]
    name = text_of(original.name)
    scale, zeros = quantization_of(original)
    scales = schema.QuantizationParametersT(
        scale=[float(value) for value in scale], zeroPoint=[int(value) + 128 for value in zeros]
    )
    twin = schema.TensorT(
        shape=original.shape, type=schema.TensorType.UINT8, name=name, quantization=scales, buffer=0
    )
    original.name = f"{name}_int8"
    graph.tensors.append(twin)
    _repoint(parsed, index, len(graph.tensors) - 1)
    return len(graph.tensors) - 1


def _repoint(parsed: Any, old: int, new: int) -> None:
    for signature in parsed.signatureDefs or []:
        for entry in (*(signature.inputs or ()), *(signature.outputs or ())):
            if entry.tensorIndex == old:
                entry.tensorIndex = new


# Codes of one kernel at two levels may differ by rounding noise: by one step, in few places.
_NOISE = 1e-3

_LEAST_CODES = 64  # in smaller kernels a single differing code is too large a share


def share_constants(model: bytes) -> bytes:
    """The file with equal constants stored once and unused buffers left out.

    The batch norm of each level scales the channels of a shared head's kernel. In int8 this changes the
    scales; of the codes only some differ by rounding noise: at most one in a thousand, by one step. Such
    kernels become equal here. All other operators compute bit-equal results.

    Raises EffkerasError for a corrupt file.
    """
    parsed = parse(model)
    tensors = [tensor for graph in parsed.subgraphs for tensor in graph.tensors]
    moved = dict(_twins(tensors, parsed.buffers))
    for tensor in tensors:
        tensor.buffer = moved.get(tensor.buffer, tensor.buffer)
    _drop_unused(parsed, tensors)
    return pack(parsed)


def _twins(tensors: Iterable[Any], buffers: list[Any]) -> Iterator[tuple[int, int]]:
    """Pairs of a redundant buffer and the one that replaces it."""
    found: dict[Any, int] = {}
    kernels: dict[tuple[int, ...], list[int]] = {}
    for tensor in tensors:
        data, index = buffers[tensor.buffer].data, tensor.buffer
        if data is None:
            continue
        first = found.setdefault(data.tobytes(), index)
        if first == index and _is_kernel(tensor):
            known = kernels.setdefault(tuple(tensor.shape), [])
            first = next((one for one in known if _are_nearly_equal(buffers[one].data, data)), index)
            if first == index:
                known.append(index)
        if first != index:
            yield index, first


def _is_kernel(tensor: Any) -> bool:
    quantization = tensor.quantization
    scales = None if quantization is None else quantization.scale
    has_codes = dtype_name(tensor.type) == "int8"
    return has_codes and scales is not None and len(scales) > 1 and np.prod(tensor.shape) >= _LEAST_CODES


def _are_nearly_equal(first: np.ndarray, other: np.ndarray) -> bool:
    apart = np.abs(first.view(np.int8).astype(np.int16) - other.view(np.int8))
    return bool(apart.max() <= 1 and apart.mean() <= _NOISE)


def _drop_unused(parsed: Any, tensors: Iterable[Any]) -> None:
    """Keeps the buffers in use, and the first, which is empty by convention."""
    entries = parsed.metadata or []
    used = {0, *(tensor.buffer for tensor in tensors), *(entry.buffer for entry in entries)}
    places: Mapping[int, int] = {old: new for new, old in enumerate(sorted(used))}
    parsed.buffers = [parsed.buffers[old] for old in sorted(used)]
    for holder in (*tensors, *entries):
        holder.buffer = places[holder.buffer]
