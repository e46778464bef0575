"""`python -m export.inspect F.tflite`: prints the contents of a .tflite, whichever tool made it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from effkeras.support.console import facts, result, run_command, table
from effkeras.support.errors import EffkerasError, printable
from effkeras.support.options import Verb, add_json, parser
from effkeras.support.tables import Table

LONGEST = 160  # characters of a text from the file

Lines = Iterator[tuple[str, str]]


VERB = Verb("export inspect", "what is in a .tflite file, made by whatever tool")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    from effkeras.litert.runner import read_flatbuffer
    from export.inspection import inspect, plain

    flatbuffer = read_flatbuffer(chosen.file)
    try:
        found = inspect(flatbuffer)
    except EffkerasError as error:
        raise EffkerasError(f"{chosen.file}: {error}") from error
    result(lambda: plain(found))
    show(str(chosen.file), found)


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name, "Shows the inputs, outputs, operators, metadata and labels of a .tflite file."
    )
    options.add_argument("file", type=Path, metavar="F.tflite", help="made by whatever tool")
    add_json(options)
    return options


def show(title: str, found: Table) -> None:
    """Prints the contents of a file."""
    facts(_safe(title), _safe_rows([*_file_lines(found), *_own_lines(found)]))
    _show_operators(found["operators"])
    if found["metadata"] is None:
        facts("TFLite Metadata", [("", "none: phone libraries will not know labels nor normalisation")])
    else:
        facts("TFLite Metadata", _safe_rows([*_metadata_lines(found["metadata"]), *_labelled(found)]))


def _file_lines(found: Table) -> Lines:
    yield "size", f"{found['bytes']:,} bytes, of which {found['weights']:,} are weights"
    for key in ("input", "output"):
        for tensor in found[f"{key}s"]:
            yield key, _tensor(tensor)
    yield "signatures", ", ".join(found["signatures"]) or "none"
    if found["graphs"] > 1:
        yield "graphs", str(found["graphs"])
    if found["description"]:
        yield "converter", found["description"]


def _own_lines(found: Table) -> Lines:
    definition, recipe = found["definition"], found["recipe"]
    if definition is None:
        yield "model", "unknown: the file was not exported by effkeras"
    else:
        yield "model", f"{definition['name']}, {definition['classes']} classes"
    if recipe is not None:
        yield (
            "recipe",
            ", ".join(f"{key} {_text(value)}" for key, value in recipe.items() if key != "summary"),
        )
    for name, size in found["entries"].items():
        yield "entry", f"{name}, {size:,} bytes"


def _tensor(tensor: Table) -> str:
    shape = " x ".join(map(str, tensor["shape"])) or "a number"
    text = f"{tensor['name']}: {tensor['dtype']}, {shape}"
    if tensor["scale"] is None:
        return text
    return f"{text}; scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}"


def _show_operators(rows: Sequence[Table]) -> None:
    macs = sum(row["multiply_adds"] for row in rows)
    count = sum(row["count"] for row in rows)
    title = f"{count} operators, {macs / 1e6:,.1f} M multiply-adds"
    columns = ("operator", "arithmetic", "count", "M multiply-adds")
    table(title, columns, [_operator_row(row) for row in rows])


def _operator_row(row: Table) -> tuple[str, ...]:
    macs = f"{row['multiply_adds'] / 1e6:,.2f}" if row["multiply_adds"] else ""
    return _safe(row["name"]), row["arithmetic"], str(row["count"]), macs


def _metadata_lines(metadata: Table) -> Lines:
    for key in ("name", "description", "version", "author", "license"):
        if metadata[key]:
            yield key, metadata[key]
    for key in ("input", "output"):
        for note in metadata[f"{key}s"]:
            yield key, "; ".join(_note_parts(note))
    for name, members in metadata["groups"].items():
        yield "group", f"{name}: {', '.join(members)}"
    if "anchors" in metadata:
        yield "anchors", f"{metadata['anchors']:,}, for decoding outside of the graph"
    for name, size in metadata["custom"].items():
        yield "entry", f"{name}, {size:,} bytes"
    yield "parser", f"version {metadata['parser_version'] or 'unknown'} or newer reads all of it"


def _note_parts(note: Table) -> Iterator[str]:
    yield f"{note['name']}: {note['description']}" if note["description"] else note["name"]
    content = note["content"] or {}
    if content.get("kind") == "boxes":
        yield _boxes(content["properties"])
    for unit in note["units"]:
        yield _unit(unit)
    if note["low"] or note["high"]:
        yield f"{_numbers(note['low'])} to {_numbers(note['high'])}"
    for file in note["files"]:
        yield f"{file['kind']} in {file['name']}"


def _boxes(properties: Table) -> str:
    order = ", ".join(map(str, properties["index"])) or "as usual"
    return f"{properties['kind']} in {properties['coordinates']}, order {order}"


def _unit(unit: Table) -> str:
    if unit["kind"] == "Normalization":
        return f"(x - {_numbers(unit['mean'])}) / {_numbers(unit['std'])}"
    return ", ".join(f"{key} {_text(value)}" for key, value in unit.items())


def _labelled(found: Table) -> Lines:
    for name, size in found["files"].items():
        yield "file", f"{name}, {size:,} bytes"


def _numbers(values: Sequence[float]) -> str:
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _safe_rows(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, _safe(value)) for name, value in rows]


def _safe(text: str) -> str:
    return printable(text, LONGEST)


if __name__ == "__main__":
    sys.exit(main())
