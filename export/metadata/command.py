"""`effkeras export metadata F.tflite`: metadata put back after edgetpu_compiler, or given other labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from effkeras.commands.options import parser
from effkeras.console import run_command
from effkeras.errors import EffkerasError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    out = chosen.out or chosen.file
    if out.suffix != ".tflite":
        raise EffkerasError(f"--out {out}: the file name must end in .tflite")
    from effkeras.litert.runner import read_flatbuffer
    from export.metadata.attaching import put_back
    from export.metadata.writing import write_rewritten

    flatbuffer = read_flatbuffer(chosen.file)
    try:
        if chosen.original is not None:
            made = put_back(flatbuffer, read_flatbuffer(chosen.original))
        else:
            made = _labelled(flatbuffer, chosen.labels)
    except EffkerasError as error:
        raise EffkerasError(f"{chosen.file}: {error}") from error
    write_rewritten(out, made, flatbuffer)
    print(f"{out}: written; `effkeras export inspect {out}` shows it")


def _labelled(flatbuffer: bytes, labels: Path) -> bytes:
    from effkeras.litert.runner import definition_of
    from export.metadata.amending import with_labels
    from export.metadata.labels import read_labels

    return with_labels(flatbuffer, read_labels(labels, definition_of(flatbuffer).classes))


def _parser() -> argparse.ArgumentParser:
    options = parser("export metadata", "Puts metadata into a .tflite that lacks it, or gives it labels.")
    options.add_argument("file", type=Path, metavar="F.tflite", help="the file to complete")
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--from",
        dest="original",
        type=Path,
        metavar="ORIGINAL.tflite",
        help="put back what edgetpu_compiler dropped when it made F of this file",
    )
    what.add_argument("--labels", type=Path, metavar="LABELS.txt", help="names of the classes, one a line")
    options.add_argument("--out", type=Path, metavar="F.tflite", help="default: F.tflite itself")
    return options
