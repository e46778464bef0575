"""Stores equal constants of a .tflite once: a detector's heads hold the same kernels for every level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from effkeras.litert.tree import dtype_name, pack, parse

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
