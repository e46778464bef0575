"""Reads the contents of a .tflite into one plain record, without running or trusting the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from effkeras.litert.archive import read_files
from effkeras.litert.flatbuffer import IOTensor, Operator, interface, multiply_adds, operators
from effkeras.litert.metadata.coding import DETECTOR_ENTRY, TABLE, anchors_in, parser_version_in
from effkeras.litert.rewriting import attached
from effkeras.litert.runner import DEFINITION, RECIPE, definition_of
from effkeras.litert.verify import verified
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table
from export.metadata import Metadata, TensorMetadata, read

OWN = (TABLE, DEFINITION, RECIPE)


def inspect(flatbuffer: bytes) -> Table:
    """The contents of a .tflite.

    Returns:
        A record that JSON can hold: `bytes`, `inputs` and `outputs` (name, dtype, shape, scale, zero point),
        `signatures`, `operators` (name, arithmetic, count, multiply-adds), `weights` in bytes, `metadata` and
        `files` (TFLite Metadata), `definition` and `recipe` (of effkeras), and `entries`, the size in bytes
        of every other metadata entry. Missing parts are None or empty.

    Raises:
        EffkerasError: the file is no .tflite, is truncated, or is damaged in any of these parts.
    """
    found = interface(flatbuffer)
    graph = operators(flatbuffer)
    metadata = read(flatbuffer)
    return {
        "bytes": len(flatbuffer),
        "description": verified(flatbuffer).get("description", ""),
        "inputs": [_tensor(tensor) for tensor in found.inputs],
        "outputs": [_tensor(tensor) for tensor in found.outputs],
        "signatures": list(found.signatures),
        "graphs": len(verified(flatbuffer)["subgraphs"]),
        "operators": _operators(graph),
        "weights": _weights(flatbuffer),
        "metadata": None if metadata is None else _metadata(flatbuffer, metadata),
        "files": {name: len(content) for name, content in read_files(flatbuffer).items()},
        "definition": _definition(flatbuffer),
        "recipe": _recipe(flatbuffer),
        "entries": _entries(flatbuffer),
    }


def _tensor(tensor: IOTensor) -> Table:
    table = {**asdict(tensor), "shape": list(tensor.shape)}
    if tensor.scale is not None and not math.isfinite(tensor.scale):
        raise EffkerasError(f"the .tflite is damaged: the scale of {tensor.name!r} is {tensor.scale}")
    return table


def _operators(graph: Sequence[Operator]) -> list[Table]:
    kinds: dict[tuple[str, str], list[int]] = {}
    for op in graph:
        kinds.setdefault((op.name, op.arithmetic), []).append(multiply_adds(op))
    rows = [
        {"name": name, "arithmetic": arithmetic, "count": len(macs), "multiply_adds": sum(macs)}
        for (name, arithmetic), macs in kinds.items()
    ]
    return sorted(rows, key=lambda row: (-row["multiply_adds"], -row["count"], row["name"]))


def _weights(flatbuffer: bytes) -> int:
    """Bytes of all constants; a buffer that several tensors share counts once."""
    record = verified(flatbuffer)
    used = {tensor.get("buffer", 0) for graph in record["subgraphs"] for tensor in graph.get("tensors", ())}
    buffers = record.get("buffers", [])
    return sum(len(buffers[index].get("data", ())) or buffers[index].get("size", 0) for index in used)


def _metadata(flatbuffer: bytes, metadata: Metadata) -> Table:
    texts = ("name", "description", "version", "author", "license")
    anchors = anchors_in(metadata)
    return {
        **{key: getattr(metadata, key) for key in texts},
        "parser_version": parser_version_in(attached(flatbuffer, TABLE) or b""),
        "inputs": [_note(note) for note in metadata.inputs],
        "outputs": [_note(note) for note in metadata.outputs],
        "groups": {group.name: list(group.tensors) for group in metadata.groups},
        "notes": [asdict(note) for note in metadata.notes],
        "custom": {name: len(data) for name, data in metadata.custom.items()},
        **({"anchors": len(anchors)} if anchors is not None and DETECTOR_ENTRY in metadata.custom else {}),
    }


def _note(note: TensorMetadata) -> Table:
    table = asdict(note)
    properties = note.content.properties if note.content else None
    table["content"] = table["content"] and {
        "kind": type(properties).__name__.lower() if properties else "",
        **table["content"],
    }
    units = [{"kind": type(unit).__name__, **asdict(unit)} for unit in note.units]
    return {**table, "units": units}


def _definition(flatbuffer: bytes) -> Table | None:
    return definition_of(flatbuffer).to_table() if attached(flatbuffer, DEFINITION) is not None else None


def _recipe(flatbuffer: bytes) -> Table | None:
    text = attached(flatbuffer, RECIPE)
    if text is None:
        return None
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EffkerasError("the recipe in the .tflite is damaged; export the model again") from error
    if not isinstance(recipe, dict):
        raise EffkerasError("the recipe in the .tflite is damaged; export the model again")
    return recipe


def _entries(flatbuffer: bytes) -> dict[str, int]:
    names = [entry.get("name", "") for entry in verified(flatbuffer).get("metadata", [])]
    return {name: len(attached(flatbuffer, name) or b"") for name in names if name not in OWN}


def plain(value: Any) -> Any:
    """The record in types that JSON can hold; NaN and infinite values become strings."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
