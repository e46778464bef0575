"""The command `export savedmodel`: parses options, exports, and prints a short report."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support.backend import need_tensorflow
from effkeras.support.console import facts, quiet, result, run_command, say
from effkeras.support.errors import printable
from effkeras.support.options import MODEL_HELP, Verb, add_data, add_json, add_weights, parser

if TYPE_CHECKING:
    from export.savedmodel.exporting import SavedModelReport

FAILED = 1


VERB = Verb("export savedmodel", "make a SavedModel that takes images as they are")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 when the SavedModel's results differ from the model's."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = parser(VERB.name, "Makes a TensorFlow SavedModel that takes images as they are.")
    options.add_argument("model", help=MODEL_HELP)
    add_weights(options)
    add_data(options, required=False)
    options.add_argument("--split", help="check with its first images (default: test, else val)")
    options.add_argument(
        "--min-score", type=float, default=0.0, help="leave out detections that are less sure (default: 0)"
    )
    options.add_argument(
        "--out", type=Path, metavar="DIR", help="default: RUN/artifacts/savedmodel, or in this folder"
    )
    add_json(options)
    chosen = vars(options.parse_args(argv))
    need_tensorflow("a SavedModel")
    source = chosen.pop("model")

    with quiet():  # which loads TensorFlow
        from export.savedmodel.exporting import CheckFailedError, SavedModelOptions, export_savedmodel

    try:
        report = export_savedmodel(source, SavedModelOptions(**chosen))
    except CheckFailedError as error:
        print(f"failed: {printable(str(error))}", file=sys.stderr)
        return FAILED
    facts(f"{report.spec.name} as a SavedModel", _lines(report))
    result({**report.to_row(), "folder": str(report.folder)})
    say(f"{report.folder}: written, with labels.txt and model.toml in assets/")
    return 0


def _lines(report: SavedModelReport) -> Iterator[tuple[str, str]]:
    for name, takes in report.signatures.items():
        yield name, takes
    for name, gives in report.answers.items():
        yield f"-> {name}", gives
    yield "size", f"{report.size:,} bytes"
    yield "checked", str(report.agreement)


if __name__ == "__main__":
    sys.exit(main())
