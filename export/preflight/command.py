"""`python -m export.preflight F.tflite --for edgetpu`: what a device will make of a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support.console import run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, above_zero, parser

if TYPE_CHECKING:
    from export.preflight.judgement import Preflight
    from export.preflight.report import SecondOpinion

FAILED = 1


VERB = Verb("export preflight", "what an Edge TPU or a GPU runs of a .tflite")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command: 0 when the device runs all of the file, 1 when it does not, 2 for bad input."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    _check(chosen)
    from effkeras.litert.runner import read_flatbuffer
    from export.preflight.judgement import check_for

    content = read_flatbuffer(chosen.file)
    try:
        found = check_for(content, chosen.target)
    except EffkerasError as error:
        raise EffkerasError(f"{chosen.file}: {error}") from error
    extra = _second_opinion(content, chosen)
    _show(found, extra, chosen)
    return 0 if found.passed and (extra is None or extra.passed) else FAILED


def _check(chosen: argparse.Namespace) -> None:
    if chosen.analyzer and chosen.target != "gpu":
        raise EffkerasError("--analyzer judges for GPUs: use it with --for gpu")
    if chosen.compile is not None and chosen.target != "edgetpu":
        raise EffkerasError("--compile makes a file for the Edge TPU: use it with --for edgetpu")
    if chosen.compile is not None and chosen.compile.suffix != ".tflite":
        raise EffkerasError(f"--compile {chosen.compile}: the file name must end in .tflite")


def _second_opinion(content: bytes, chosen: argparse.Namespace) -> SecondOpinion | None:
    """What the vendor's own tool says, where it is there and asked for."""
    if chosen.analyzer:
        from export.preflight.analyzer import analyzed

        return analyzed(content, chosen.analyzer, chosen.timeout)
    if chosen.target == "edgetpu" and not chosen.no_compiler:
        from export.preflight.compiler import compiled

        return compiled(content, chosen.file.stem, chosen.compile, chosen.timeout)
    return None


def _show(found: Preflight, extra: SecondOpinion | None, chosen: argparse.Namespace) -> None:
    if chosen.json:
        row = {"file": str(chosen.file), **found.to_row()}
        print(json.dumps(row if extra is None else {**row, **extra.to_row(found)}, indent=2))
        return
    from export.preflight.report import show

    show(chosen.file.name, found, extra, every=chosen.ops)


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name,
        "Says which operators of a .tflite an Edge TPU or a GPU runs, which not, and why. "
        "Exit code: 0 it runs all, 1 it does not, 2 bad input.",
    )
    options.add_argument("file", type=Path, metavar="F.tflite")
    options.add_argument(
        "--for",
        dest="target",
        default="edgetpu",
        metavar="DEVICE",
        help="edgetpu or gpu (default: edgetpu)",
    )
    options.add_argument("--ops", action="store_true", help="list every operator, in the order of execution")
    options.add_argument("--json", action="store_true", help="print all findings as JSON")
    options.add_argument(
        "--analyzer",
        nargs="?",
        const=sys.executable,
        metavar="PYTHON",
        help="for gpu: ask TensorFlow's own model analyzer too; PYTHON has TensorFlow 2.17 at most",
    )
    options.add_argument(
        "--compile",
        type=Path,
        metavar="OUT.tflite",
        help="for edgetpu: keep what edgetpu_compiler makes, with the metadata put back",
    )
    options.add_argument(
        "--no-compiler",
        action="store_true",
        help="for edgetpu: do not ask edgetpu_compiler, though it is installed",
    )
    options.add_argument(
        "--timeout",
        type=above_zero,
        default=600,
        metavar="S",
        help="seconds that edgetpu_compiler or the analyzer may take (default: 600)",
    )
    return options
