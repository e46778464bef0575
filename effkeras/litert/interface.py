"""The inputs and outputs of a .tflite, read without running it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from effkeras.litert.flat_records import Record
from effkeras.litert.tree import dtype_name
from effkeras.litert.verify import verified


@dataclass(frozen=True, slots=True)
class IOTensor:
    """An input or output of the main graph.

    `name` comes from the signature, or from the tensor if there is no signature. `scale` and `zero_point` are
    None for a tensor that is not quantized.
    """

    name: str
    tensor: int
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None

    @property
    def reach(self) -> tuple[float, float]:
        """The smallest and the largest value that it can represent; infinite if it is not quantized."""
        if self.scale is None or self.zero_point is None:
            return -math.inf, math.inf
        codes = np.iinfo(self.dtype)
        return (codes.min - self.zero_point) * self.scale, (codes.max - self.zero_point) * self.scale


@dataclass(frozen=True, slots=True)
class Interface:
    """Inputs and outputs in the order of the graph, and the keys of the file's signatures."""

    inputs: tuple[IOTensor, ...]
    outputs: tuple[IOTensor, ...]
    signatures: tuple[str, ...]


def interface(model: bytes) -> Interface:
    """The inputs and outputs of a file's main graph. Raises EffkerasError for a corrupt file."""
    record = verified(model)
    graph, signatures = record["subgraphs"][0], record.get("signature_defs", [])
    main: Record = next((one for one in signatures if one.get("subgraph_index", 0) == 0), {})
    return Interface(
        _io_tensors(graph, "inputs", main),
        _io_tensors(graph, "outputs", main),
        tuple(one.get("signature_key", "") for one in signatures),
    )


def _io_tensors(graph: Record, key: str, signature: Record) -> tuple[IOTensor, ...]:
    names = {entry.get("tensor_index", 0): entry.get("name", "") for entry in signature.get(key, [])}
    tensors = graph.get("tensors", [])
    return tuple(_io_tensor(int(index), tensors[index], names) for index in graph.get(key, ()))


def _io_tensor(index: int, tensor: Record, names: Mapping[int, str]) -> IOTensor:
    quantization = tensor.get("quantization", {})
    scale, zero = quantization.get("scale", ()), quantization.get("zero_point", ())
    return IOTensor(
        name=names.get(index, "") or tensor.get("name", ""),
        tensor=index,
        dtype=dtype_name(tensor.get("type", 0)),
        shape=tuple(int(side) for side in tensor.get("shape", ())),
        scale=float(scale[0]) if len(scale) else None,
        zero_point=(int(zero[0]) if len(zero) else 0) if len(scale) else None,
    )
