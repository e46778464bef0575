"""Equal constants of a .tflite stored once: a detector's heads hold the same kernels for every level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from effkeras.litert.tree import dtype_name, pack, parse

# Codes of a kernel that other levels have too differ where rounding noise decides: by one, in few places.
_NOISE = 1e-3
_LEAST_CODES = 64  # in smaller kernels one code is no noise


def share_constants(model: bytes) -> bytes:
    """The file with equal constants stored once, and what nothing uses left out.

    Batch norm of each level scales the channels of a shared head's kernel. That changes scales of its int8
    form, but of its codes only some that rounding noise decides: at most one in a thousand, by one step. Such
    kernels become equal here. Everything else computes the same to the bit.

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
    """Buffers that another one stands for."""
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
    """Leaves the buffers in use, and the first, which by convention is empty."""
    entries = parsed.metadata or []
    used = {0, *(tensor.buffer for tensor in tensors), *(entry.buffer for entry in entries)}
    places: Mapping[int, int] = {old: new for new, old in enumerate(sorted(used))}
    parsed.buffers = [parsed.buffers[old] for old in sorted(used)]
    for holder in (*tensors, *entries):
        holder.buffer = places[holder.buffer]
